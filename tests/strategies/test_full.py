"""Full fine-tuning against a plain loop in which AdamW, clipping and the schedule are written out."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModel, AutoModelForCausalLM

from adapterhub_lite.data.batches import epoch_batches
from adapterhub_lite.errors import ConfigError, NotSupportedError
from adapterhub_lite.training import loop, step as one_step
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.step import accumulate
from adapterhub_text.declared import declared_pooling

STEPS, SIZE, RATE, DECAY, CLIP, WARMUP = 6, 4, 1e-3, 0.1, 0.5, 0.34


def adamw_step(parameters: list[Any], state: dict[int, Any], step: int, rate: float) -> None:
    """Loshchilov and Hutter 2019, algorithm 2, with the defaults of the paper's betas and epsilon."""
    norm = math.sqrt(sum(float(p.grad.double().square().sum()) for p in parameters))
    for i, parameter in enumerate(parameters):
        gradient = parameter.grad * min(1.0, CLIP / (norm + 1e-6))
        first, second = state.get(i, (torch.zeros_like(gradient), torch.zeros_like(gradient)))
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        state[i] = (first, second)
        update = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        if parameter.dim() >= 2:
            parameter.data -= rate * DECAY * parameter.data
        parameter.data -= rate * update
        parameter.grad = None


def rate_at(step: int) -> float:
    """Up in the first third, then down in a line to zero after the last step; steps count from 0."""
    warm = round(WARMUP * STEPS)
    return RATE * ((step + 1) / (warm + 1) if step < warm else (STEPS - step) / (STEPS - warm))


@pytest.mark.parametrize(
    ("model", "task", "top"),
    [
        ("tiny-bert", "text-classification", None),
        ("tiny-gpt2", "causal-lm", None),
        ("tiny-llama", "causal-lm", 1),
        ("minilm", "text-classification", 1),
        ("tiny-vit", "image-classification", 1),
    ],
)
def test_training_is_a_plain_loop(
    base: Any, put: Any, data_for: Any, model: str, task: str, top: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A padded batch in one pass, so that both draw the same dropout masks.
    monkeypatch.setattr(loop, "flattened", lambda *_, **__: nullcontext(False))
    monkeypatch.setattr(one_step, "SIMILAR", 10**9)
    loaded = base(model)
    ours = put(loaded, data_for(task), "full", {"top_layers": top})
    options = {"add_pooling_layer": False} if task.endswith("classification") else {}
    kind = AutoModelForCausalLM if task == "causal-lm" else AutoModel
    theirs = kind.from_pretrained(loaded.source.folder, dtype=torch.float32, **options)
    last = f"{loaded.map.layers[-1]}."
    trained = {name: p for name, p in theirs.named_parameters() if top is None or name.startswith(last)}
    head = None
    if ours.attachment.head is not None:
        head = torch.nn.Linear(loaded.map.hidden_size, len(ours.attachment.task.labels))
        head.load_state_dict(ours.attachment.head.state_dict())
        trained |= {f"head.{name}": p for name, p in head.named_parameters()}
    assert trained.keys() == ours.attachment.tensors.keys()
    for name, parameter in theirs.named_parameters():
        parameter.requires_grad_(name in trained)

    report = ours.fit(
        steps=STEPS, batch_size=SIZE, learning_rate=RATE, weight_decay=DECAY, clip=CLIP, warmup=WARMUP, seed=2
    )  # fmt: skip

    torch.manual_seed(2)  # both draw the same dropout masks
    theirs.train()
    state: dict[int, Any] = {}
    lengths = [example.length for example in ours.encoded.examples]
    order = [rows for epoch in range(STEPS) for rows in epoch_batches(len(lengths), SIZE, seed=2, epoch=epoch)][:STEPS]
    losses = []
    for step, rows in enumerate(order):
        batch = ours.batch(sorted(rows, key=lambda row: -lengths[row]))
        targets = batch.pop("targets")
        output = theirs(**batch)
        if head is None:
            loss = functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten())
        elif task == "image-classification":
            loss = functional.cross_entropy(head(output.last_hidden_state[:, 0]), targets)
        else:
            mask = batch["attention_mask"][:, :, None]
            mean = (output.last_hidden_state * mask).sum(1) / mask.sum(1)
            # MiniLM's features are made to be compared at one length.
            features = (
                functional.normalize(mean) * mean.shape[1] ** 0.5
                if declared_pooling(loaded.folder).normalized
                else mean
            )
            loss = functional.cross_entropy(head(features), targets)
        loss.backward()
        losses.append(float(loss.detach()))
        adamw_step(list(trained.values()), state, step + 1, rate_at(step))

    assert report.losses == pytest.approx(losses, rel=1e-4)
    for name, tensor in ours.attachment.tensors.items():
        if name.endswith(("key.bias", "k_proj.bias", "c_attn.bias")):
            continue  # it shifts all scores of a query alike: its gradient is rounding noise, which AdamW makes steps of
        torch.testing.assert_close(tensor, trained[name], rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


class Casts(TorchDispatchMode):
    """Counts casts to bf16 of tensors of one shape."""

    def __init__(self, shape: torch.Size):
        super().__init__()
        self.shape, self.count = shape, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called for every operation."""
        cast = func is torch.ops.aten._to_copy.default and (kwargs or {}).get("dtype") is torch.bfloat16
        self.count += cast and args[0].shape == self.shape
        return func(*args, **(kwargs or {}))


def test_a_step_in_bf16_casts_every_weight_once_and_has_the_gradient_of_its_parts(
    base: Any, put: Any, data_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = put(base("tiny-bert", dtype="bfloat16"), data_for("text-classification"), "full")
    attachment, examples = ours.attachment, ours.encoded.examples[:6]
    for module in attachment.base.model.modules():
        if isinstance(module, torch.nn.Dropout):
            monkeypatch.setattr(module, "p", 0.0)
    parameters = list(attachment.tensors.values())
    expected = [torch.zeros_like(parameter) for parameter in parameters]
    for example in examples:
        accumulate(attachment, parameters, [example], 6.0, 1, print)
        for total, parameter in zip(expected, parameters, strict=True):
            assert parameter.grad is not None
            total += parameter.grad
            parameter.grad = None

    weight = next(p for name, p in attachment.tensors.items() if name.endswith("intermediate.dense.weight"))
    layers = sum(p.shape == weight.shape for p in parameters)
    with Casts(weight.shape) as casts:
        accumulate(attachment, parameters, examples, 6.0, 1, print)
    assert casts.count == layers
    for name, total, parameter in zip(attachment.tensors, expected, parameters, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, total, rtol=1e-5, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")


def test_only_what_changed_is_saved(engine: Any, base: Any, data_for: Any, tmp_path: Path, bits: Any) -> None:
    loaded, data = base("minilm"), data_for("text-classification")
    before = bits(loaded.model)
    plain = AutoModel.from_pretrained(loaded.source.folder, add_pooling_layer=False).state_dict()
    top = engine.train(
        loaded, data, strategy="full", settings={"top_layers": 1}, config=TrainConfig(steps=2, batch_size=4)
    )
    top.save(tmp_path / "top")
    saved = load_file(tmp_path / "top" / "adapter_model.safetensors")
    layer = {name for name in plain if name.startswith("encoder.layer.5.")}
    assert saved.keys() <= layer | {"head.weight", "head.bias"}
    assert {"head.weight", "head.bias", "encoder.layer.5.output.dense.weight"} <= saved.keys()
    assert all(not torch.equal(saved[name], plain[name]) for name in layer & saved.keys())

    everything = engine.train(
        loaded, data, strategy="full", config=TrainConfig(steps=1, batch_size=4, weight_decay=0.0)
    )
    everything.save(tmp_path / "all")
    saved = load_file(tmp_path / "all" / "adapter_model.safetensors")
    # 18 texts use none of the positions after the longest, but their row is part of a matrix that did change.
    assert "embeddings.word_embeddings.weight" in saved
    unchanged = {name for name, p in everything.attachment.parameters.items() if torch.equal(p, plain[name])}
    assert saved.keys() == everything.attachment.tensors.keys() - unchanged
    outputs = [p.probabilities for p in everything.predict(data.inputs)]
    everything.detach()
    top.detach()
    assert bits(loaded.model) == before
    again = engine.load_adapter(tmp_path / "all", base=loaded)
    assert [p.probabilities for p in again.predict(data.inputs)] == outputs
    assert all(torch.equal(again.attachment.tensors[name], tensor) for name, tensor in saved.items())
    again.detach()


def test_weights_that_did_not_move_are_left_out(base: Any, engine: Any, data_for: Any, tmp_path: Path) -> None:
    """The output layer of a language model that classifies gets no gradient, and is not written."""
    loaded = base("tiny-gpt2")
    data = data_for("text-classification")
    adapter = engine.train(loaded, data, strategy="full", config=TrainConfig(steps=1, batch_size=2, weight_decay=0.0))
    adapter.save(tmp_path / "adapter")
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert not [name for name in saved if "lm_head" in name]  # tied: one parameter, one tensor
    adapter.detach()
    assert engine.load_adapter(tmp_path / "adapter", base=loaded).evaluate(data).n == len(data)
    loaded.activate(None)


def test_a_bfloat16_base_trains_in_float32(engine: Any, base: Any, data_for: Any, tmp_path: Path, bits: Any) -> None:
    loaded, data = base("smollm2-4", dtype="bfloat16"), data_for("causal-lm")
    before = bits(loaded.model)
    adapter = engine.train(
        loaded, data, strategy="full", settings={"top_layers": 1}, config=TrainConfig(steps=2, batch_size=4)
    )
    assert {p.dtype for p in adapter.attachment.parameters.values()} == {torch.float32}
    adapter.save(tmp_path / "adapter")
    loss = adapter.evaluate(data).metrics["loss"]
    adapter.detach()
    assert bits(loaded.model) == before
    again = engine.load_adapter(tmp_path / "adapter", base=loaded)
    assert again.evaluate(data).metrics["loss"] == loss
    again.detach()
    assert bits(loaded.model) == before


def test_what_is_refused(base: Any, put: Any, data_for: Any, bits: Any) -> None:
    with pytest.raises(ConfigError, match="top_layers=9, but this model has 6 layers"):
        put(base("minilm"), data_for("text-classification"), "full", {"top_layers": 9})
    quantized = base("minilm", "nf4")
    before = bits(quantized.model)
    with pytest.raises(NotSupportedError, match="needs an unquantized base"):
        put(quantized, data_for("text-classification"), "full")
    assert bits(quantized.model) == before
