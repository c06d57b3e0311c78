"""The loss a few positions at a time is the one of whole logits, and no tensor has the width of all logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapterhub_causal_lm import loss as piecewise
from adapterhub_causal_lm.output import bodies_of
from adapterhub_causal_lm.task import CausalLM
from adapterhub_lite.base.loading import adopt
from adapterhub_lite.base.map import ModelMap
from adapterhub_lite.plan.storages import LiveStorages
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.testing.tokenizer import tiny_tokenizer
from adapterhub_lite.training.attachment import attach
from adapterhub_lite.training.config import TrainConfig
from tests.reading import load_data

ROWS = [
    {"prompt": "the card is", "completion": "not here please help"},
    {"prompt": "one two", "completion": "three four five six"},
    {"prompt": "here", "completion": "is a card"},
]
SHAPE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "initializer_range": 0.1, "max_position_embeddings": 64,
}  # fmt: skip
# What they do to their logits: caps, scales up, scales down; and features that are scaled on the way to the output layer.
MODELS: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False},
    "gemma2": {"final_logit_softcapping": 2.0},
    "cohere": {"logit_scale": 0.3},
    "granite": {"logits_scaling": 7.0},
    "minicpm3": {"num_key_value_heads": 2, "dim_model_base": 5},
    "opt": {"ffn_dim": 32, "word_embed_proj_dim": 16, "dropout": 0.0},
}
STRATEGIES: dict[str, dict[str, Any]] = {
    "lora": {"rank": 2},
    "prefix": {"length": 2},
    "full": {},
}


def base_of(kind: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = tiny_tokenizer()
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    try:
        config = AutoConfig.for_model(kind, **{"vocab_size": len(tokenizer), **SHAPE, **ids, **MODELS[kind]})
    except ValueError:
        pytest.skip(f"this version of transformers has no {kind}")
    torch.manual_seed(0)
    return adopt(AutoModelForCausalLM.from_config(config), tokenizer)


@contextmanager
def attached(engine: Any, base: Any, strategy: str, settings: dict[str, Any], rows: Any = ROWS) -> Iterator[Any]:
    """An attachment whose factors and gates are not zero, and a batch for it."""
    data = load_data(rows, "causal-lm")
    task, provided = engine.task_for(base, data), engine.strategy_shelf.resolve(strategy)
    torch.manual_seed(0)
    options = engine.strategy_shelf.configure(provided, settings)
    attachment = attach(base, task, provided, engine.strategy_shelf.load(provided), options)
    with torch.no_grad():
        for name, parameter in attachment.parameters.items():
            if "lora_B" in name or "translator" in name:
                parameter.normal_(std=0.1)
    yield attachment, task.collate(task.encode(data, base).examples, base)
    attachment.detach()


def whole(attachment: Any, batch: Any, weight: float) -> Tensor:
    """The loss from whole logits, as any task computes it."""
    logits, targets = attachment.logits(batch)
    return nn.functional.cross_entropy(logits, targets, reduction="sum") / weight


def gradients(attachment: Any, compute: Callable[..., Tensor], batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
    with attachment.training():
        loss = compute(batch, 7.0)
        loss.backward()
    given = {name: parameter.grad for name, parameter in attachment.tensors.items()}
    for parameter in attachment.tensors.values():
        parameter.grad = None
    return loss.detach(), given


def compare(attachment: Any, batch: Any) -> None:
    loss, given = gradients(attachment, attachment.loss, batch)
    wanted, reference = gradients(attachment, lambda *of: whole(attachment, *of), batch)
    assert attachment.task._pieces._tried[1], "it was computed in pieces"
    assert abs(float(loss - wanted)) < 1e-6 * max(1.0, float(wanted))
    for name, gradient in reference.items():
        if gradient is None:
            assert given[name] is None, name
            continue
        assert float((given[name] - gradient).abs().max()) < 1e-6 * max(1.0, float(gradient.abs().max())), name


@pytest.fixture(autouse=True)
def three_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piecewise, "PIECE", 3 * 4 * len(tiny_tokenizer()))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind", MODELS)
def test_losses_and_gradients_are_those_of_whole_logits(engine: Any, kind: str, strategy: str) -> None:
    base = base_of(kind)
    with attached(engine, base, strategy, STRATEGIES[strategy]) as (attachment, batch):
        compare(attachment, batch)
        with torch.no_grad():
            logits, targets = attachment.logits(batch)
            wanted = nn.functional.cross_entropy(logits, targets, reduction="none")
            torch.testing.assert_close(attachment.target_losses(batch), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"rank": 2, "targets": r"re:lm_head|.*\.q_proj"},
        {"rank": 2, "targets": "re:lm_head", "dora": True},
    ],
    ids=str,
)
def test_what_trains_behind_the_layers_gets_its_gradient(engine: Any, settings: dict[str, Any]) -> None:
    with attached(engine, base_of("llama"), "lora", settings) as (attachment, batch):
        compare(attachment, batch)


@pytest.mark.parametrize("kind", ["llama", "gemma2"])  # an output layer of its own, and one that is the embedding
def test_rows_of_added_tokens_get_their_gradient(engine: Any, kind: str) -> None:
    with attached(engine, base_of(kind), "lora", {"rank": 2}) as (attachment, batch):
        attachment.view.add_tokens(["<one>", "<two>"])
        attachment.parameters |= attachment.view.token_rows
        batch["input_ids"][:, 2] = batch["targets"][:, 2] = attachment.view.token_ids[0]
        compare(attachment, batch)


def test_a_tied_embedding_gets_both_gradients(engine: Any) -> None:
    with attached(engine, tiny_base("decoder"), "full", {}) as (attachment, batch):
        compare(attachment, batch)


@pytest.mark.parametrize("strategy", ["lora", "full"])
def test_half_precision_is_as_exact_as_with_whole_logits(engine: Any, strategy: str) -> None:
    base, exact = tiny_base("decoder", dtype=torch.bfloat16), tiny_base("decoder")
    exact.model.load_state_dict(base.model.state_dict())
    errors = []
    with attached(engine, exact, strategy, {}) as (attachment, batch):
        _, reference = gradients(attachment, attachment.loss, batch)
    with attached(engine, base, strategy, {}) as (attachment, batch):
        for compute in (attachment.loss, lambda *of: whole(attachment, *of)):
            with attachment.precision():
                _, given = gradients(attachment, compute, batch)
            off = [(given[n].float() - g).norm() / g.norm() for n, g in reference.items() if g is not None and g.norm()]
            errors.append(float(torch.stack(off).mean()))
    assert errors[0] < 1.1 * errors[1]


def test_no_tensor_is_as_wide_as_all_logits(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    vocabulary, rows = 20_000, [{"prompt": "the", "completion": " ".join(["card"] * 40)}] * 8
    monkeypatch.setattr(piecewise, "PIECE", 8 * 4 * vocabulary)
    config = LlamaConfig(vocab_size=vocabulary, **SHAPE, tie_word_embeddings=False)
    base = adopt(LlamaForCausalLM(config), tiny_tokenizer())
    with attached(engine, base, "lora", {"rank": 2}, rows) as (attachment, batch):
        positions = int((batch["targets"] != -100).sum())
        assert positions > 300
        buffer = positions * vocabulary * 4

        def taken(compute: Callable[[], Any]) -> int:
            with attachment.training(), LiveStorages() as live:
                compute()
                return live.peak

        def scored() -> None:
            with torch.no_grad():
                attachment.target_losses(batch)

        scored()  # the model is tried once for each adapter
        assert taken(lambda: whole(attachment, batch, 1.0).backward()) > 2 * buffer
        assert taken(lambda: attachment.loss(batch, 1.0).backward()) < buffer / 4
        assert taken(scored) < buffer / 4


def test_training_has_no_such_tensor_either(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the whole loop, packed, with evaluation and what was forgotten."""
    widest = []

    def count(logits: Tensor, targets: Tensor) -> Any:
        widest.append(len(logits))
        return losses(logits, targets)

    losses = piecewise._losses
    monkeypatch.setattr(piecewise, "_losses", count)
    monkeypatch.setattr(CausalLM, "losses", lambda *_: pytest.fail("whole logits"))
    monkeypatch.setattr("adapterhub_lite.tasks.task.Task.weighted", lambda *_: pytest.fail("whole logits"))
    data = load_data(ROWS * 3, "causal-lm")
    base = tiny_base("decoder")
    options = {"packing": True, "max_length": 32}
    adapter = engine.train(base, data, eval_data=data, task_options=options, config=TrainConfig(steps=2, batch_size=8))
    assert max(widest) == 3
    adapter.detach()


def test_a_model_that_cannot_be_run_in_pieces_is_run_whole(engine: Any, caplog: pytest.LogCaptureFixture) -> None:
    """One that does to its logits what depends on where it ran, and one with hooks on what trains behind its layers."""
    base = base_of("llama")
    forward = base.model.forward

    def by_length(input_ids: Tensor, **inputs: Any) -> Any:
        output = forward(input_ids=input_ids, **inputs)
        output.logits = output.logits * input_ids.shape[1]
        return output

    base.model.forward = by_length
    with attached(engine, base, "lora", {"rank": 2}) as (attachment, batch):
        loss, _ = gradients(attachment, attachment.loss, batch)
        wanted, _ = gradients(attachment, lambda *of: whole(attachment, *of), batch)
        torch.testing.assert_close(loss, wanted, rtol=1e-6, atol=0)
        assert not attachment.task._pieces._tried[1]
        assert caplog.text.count("cannot be run behind its layers a few positions at a time") == 1
    del base.model.forward
    with attached(engine, base, "full", {}) as (attachment, batch):
        attachment.tensors["lm_head.weight"].register_hook(lambda gradient: 2 * gradient)
        _, given = gradients(attachment, attachment.loss, batch)
        _, wanted = gradients(attachment, lambda *of: whole(attachment, *of), batch)
        torch.testing.assert_close(given, wanted)


def test_a_task_with_a_loss_of_its_own_has_whole_logits(engine: Any) -> None:
    class Halved(CausalLM):
        def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
            return super().losses(logits, targets) / 2

    with attached(engine, tiny_base("decoder"), "lora", {"rank": 2}) as (attachment, batch):
        plain = attachment.loss(batch, 1.0)
        attachment.task.__class__ = Halved
        torch.testing.assert_close(attachment.loss(batch, 1.0), plain / 2)
        with torch.no_grad():
            torch.testing.assert_close(attachment.target_losses(batch).sum(), plain / 2)


@pytest.mark.parametrize(
    ("layers", "output", "bodies"),
    [
        (("model.layers.0", "model.layers.1"), "lm_head", ["model", "model.layers"]),
        (("model.decoder.h.0",), "lm_head", ["model", "model.decoder", "model.decoder.h"]),
        (("transformer.encoder.h.0",), "transformer.out", ["transformer.encoder", "transformer.encoder.h"]),
        (("language.model.h.0",), "language.lm_head", ["language.model", "language.model.h"]),
        (("a.layers.0", "b.layers.0"), "lm_head", []),
        (("lm_head.layers.0",), "lm_head", []),
    ],
)
def test_what_has_all_layers_and_no_output(layers: tuple[str, ...], output: str, bodies: list[str]) -> None:
    assert bodies_of(ModelMap("text", 8, layers, (), (), output, "last", True)) == bodies


def test_the_gradient_is_taken_once() -> None:
    hidden = torch.randn(4, 3, requires_grad=True)
    targets = torch.tensor([0, 1, 2, 0])
    loss = piecewise.piecewise_loss(lambda h: h, hidden, targets, 3, 1.0)
    loss.backward(retain_graph=True)
    wanted = hidden.detach().softmax(dim=1) - nn.functional.one_hot(targets, 3)
    torch.testing.assert_close(hidden.grad, wanted, rtol=1e-6, atol=1e-6)
    with pytest.raises(RuntimeError, match="not kept for a second time"):
        loss.backward()


def test_logits_that_are_not_finite_give_such_a_loss() -> None:
    hidden = torch.tensor([[1.0, float("nan")]], requires_grad=True)
    assert not piecewise.piecewise_loss(lambda h: h, hidden, torch.tensor([0]), 2, 1.0).isfinite()
