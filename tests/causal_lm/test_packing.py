"""Packed examples are computed as they are alone, or are refused; tests/training/test_flat.py has how this is done."""

from __future__ import annotations

import random
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from adapterhub_lite.base.loading import adopt
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.testing.tokenizer import WORDS, tiny_tokenizer
from adapterhub_lite.training import flat
from adapterhub_lite.training.attachment import attach
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.flat import flattened
from tests.reading import load_data

STRATEGIES: dict[str, dict[str, Any]] = {"lora": {"rank": 4}, "prefix": {"length": 4}, "full": {}, "linear_probe": {}}


@pytest.fixture(scope="module")
def counted() -> Any:
    draw = random.Random(0)

    def words(most: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(1, most)))

    return load_data([{"prompt": words(8), "completion": words(6)} for _ in range(12)], "causal-lm")


def gradients(engine: Any, base: Any, data: Any, strategy: str, packing: bool) -> tuple[torch.Tensor, dict[str, Any]]:
    """Losses of all targets and the gradients of their mean, in one row where `packing`."""
    task, provided = engine.task_for(base, data, {"packing": packing}), engine.strategy_shelf.resolve(strategy)
    torch.manual_seed(0)
    options = engine.strategy_shelf.configure(provided, STRATEGIES[strategy])
    attachment = attach(base, task, provided, engine.strategy_shelf.load(provided), options)
    with torch.no_grad():
        for name, parameter in attachment.tensors.items():
            if "lora_B" in name or "translator" in name:
                parameter.normal_(std=0.05)  # at zero, it would hide the gradient of the other factor
    examples = task.encode(data, base).examples
    in_one_row = flattened(base, task, examples, attachment, learns=True) if packing else nullcontext()
    with attachment.training(), in_one_row:
        logits, targets = attachment.logits(task.collate(examples, base))
        losses = task.losses(logits, targets)
        losses.mean().backward()
    by_name = {name: parameter.grad.clone() for name, parameter in attachment.tensors.items()}
    attachment.detach()
    return losses.detach(), by_name


# Prefix extends sdpa alone.
WAYS = [(s, i) for s in STRATEGIES for i in ("sdpa", "eager") if (s, i) != ("prefix", "eager")]


@pytest.mark.parametrize(("strategy", "implementation"), WAYS)
@pytest.mark.parametrize("model", ["decoder", "conv1d"])
def test_losses_and_gradients_are_the_unpacked_ones(
    engine: Any, counted: Any, model: str, strategy: str, implementation: str
) -> None:
    """With rotary and with absolute positions, with our own attention (prefix) and with transformers'."""
    base = tiny_base(model)
    base.model.set_attn_implementation(implementation)
    alone, packed = (gradients(engine, base, counted, strategy, packing) for packing in (False, True))
    torch.testing.assert_close(packed[0], alone[0], rtol=1e-5, atol=1e-5)
    for name, gradient in alone[1].items():
        assert float((packed[1][name] - gradient).abs().max()) < 1e-5 * max(1.0, float(gradient.abs().max())), name


def test_a_whole_run_is_the_unpacked_one(engine: Any, base: Any, sums: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """SmolLM2's real weights: the losses of each step, the batch counted in examples, and the scores."""
    loaded, data = base("smollm2-4"), sums(8)
    config = TrainConfig(steps=2, batch_size=8, micro_batch_size=4, learning_rate=1e-3)
    scores, losses = [], []
    suits = flat._Trial.suits
    monkeypatch.setattr(
        flat._Trial, "suits", lambda trial, *of: suits(trial, *of) if trial.task.needs_one_row else "to compare with"
    )
    for packing in (False, True):
        adapter = engine.train(
            loaded, data, eval_data=data, strategy="lora", settings={"rank": 4}, config=config,
            task_options={"packing": packing, "max_length": 256},
        )  # fmt: skip
        losses.append(adapter.training["train_loss"])
        scores.append(adapter.evaluate(data).metrics["loss"])
        adapter.detach()
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert scores[1] == pytest.approx(scores[0], rel=1e-5)


def tiny(kind: str) -> Any:
    from transformers import MambaConfig, MambaForCausalLM, MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    common = {"vocab_size": len(tiny_tokenizer()), "hidden_size": 64, "num_hidden_layers": 2, "initializer_range": 0.2}
    if kind == "mamba":
        return MambaForCausalLM(MambaConfig(**common, state_size=8, pad_token_id=0, bos_token_id=2, eos_token_id=3))
    return MistralForCausalLM(
        MistralConfig(
            **common, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=48,
            sliding_window=8,
        )
    )  # fmt: skip


def test_models_for_which_it_is_not_exact_are_refused(engine: Any, counted: Any) -> None:
    base = adopt(tiny("mistral"), tiny_tokenizer(), reference="windowed")
    with pytest.raises(NotSupportedError, match="attends to the last 8 tokens only"):
        engine.task_for(base, counted, {"packing": True})
    base = adopt(tiny("mamba"), tiny_tokenizer(), reference="recurrent")
    with pytest.raises(NotSupportedError, match="it takes no positions; use --task-set packing=false"):
        gradients(engine, base, counted, "full", True)


@pytest.fixture
def blind() -> Any:
    """A model that looks at the token before, wherever it stands: the first one of an example sees the last of another."""
    base = tiny_base("decoder")

    def mix(_: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        return output + 0.5 * torch.cat([torch.zeros_like(output[:, :1]), output[:, :-1]], dim=1)

    base.model.get_input_embeddings().register_forward_hook(mix)
    return base


def test_a_model_that_ignores_the_mask_is_refused(engine: Any, counted: Any, blind: Any) -> None:
    with pytest.raises(NotSupportedError, match="not run without padding: features differ by"):
        gradients(engine, blind, counted, "lora", True)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("pretended"), MemoryError(), RuntimeError("CUDA error: out of memory")], ids=repr
)
def test_the_comparison_that_runs_out_of_memory_is_made_again(
    engine: Any, counted: Any, blind: Any, error: BaseException
) -> None:
    passes = []

    def full(*_: Any) -> None:
        passes.append(torch.is_grad_enabled())
        if len(passes) == 2:  # the examples one to a row went well, and now all are in one
            raise error

    blind.model.register_forward_pre_hook(full)
    options = {"packing": True, "max_length": 32}
    with pytest.raises(NotSupportedError, match="features differ by"):
        engine.train(blind, counted, strategy="full", task_options=options, config=TrainConfig(steps=1, batch_size=8))
    assert passes == [True] * 5, "both ways with eight, with four and with others of these before them; it never trains"
