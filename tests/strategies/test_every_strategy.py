"""What holds for every strategy on every kind of base: it trains, comes back bit for bit, and leaves no trace."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from adapterhub_lite.adapter.peft_names import from_file, names_class
from adapterhub_lite.training.config import TrainConfig

STRATEGIES: dict[str, dict[str, Any]] = {
    "lora": {"rank": 4},
    "prefix": {"length": 4},
    "linear_probe": {"penalty": 1e-2, "epochs": 1},
    "full": {},
}
PLACES = [
    ("minilm", "text-classification"),
    ("smollm2-4", "causal-lm"),
    ("smollm2-4", "text-classification"),
    ("tiny-vit", "image-classification"),
    ("mobilenet", "image-classification"),
]
CASES = [(s, m, t) for s in STRATEGIES for m, t in PLACES if (s, m) != ("prefix", "mobilenet")]


def logits_of(adapter: Any, data: Any) -> torch.Tensor:
    """What the adapter says of some rows, without the cache of features."""
    attachment = adapter.attachment
    examples = attachment.task.encode(data, attachment.base).examples[:4]
    with torch.no_grad():
        logits: torch.Tensor = attachment.logits(attachment.task.collate(examples, attachment.base))[0]
    return logits.clone()


def bare_outputs(adapter: Any, data: Any) -> torch.Tensor:
    """What the base says of the same rows when it is run by itself, without switching anything."""
    attachment, model = adapter.attachment, adapter.base.model
    batch = dict(attachment.task.collate(attachment.task.encode(data, adapter.base).examples[:4], adapter.base))
    batch.pop("targets", None)
    with torch.no_grad():
        output: torch.Tensor = model(**batch)[0]
    return output.clone()


def short_run(engine: Any, base: Any, data: Any, strategy: str, seed: int) -> Any:
    rate = {"full": 1e-3}.get(strategy, 1e-2)
    config = TrainConfig(steps=2, batch_size=4, learning_rate=rate, warmup=0.0, schedule="constant", seed=seed)
    settings = dict(STRATEGIES[strategy])
    if strategy == "linear_probe":
        settings["penalty"] *= 10**seed  # its solution does not depend on the seed
        settings["epochs"] += seed
    return engine.train(base, data, strategy=strategy, settings=settings, config=config)


@pytest.mark.parametrize(("strategy", "model", "task"), CASES, ids=lambda value: value)
def test_train_switch_save_reload_detach(
    engine: Any, base: Any, data_for: Any, bits: Any, tmp_path: Path, strategy: str, model: str, task: str
) -> None:
    loaded, data = base(model), data_for(task)
    before = bits(loaded.model)
    first = short_run(engine, loaded, data, strategy, 0)
    second = short_run(engine, loaded, data, strategy, 1)
    assert all(math.isfinite(a.training["train_loss"]) for a in (first, second) if "train_loss" in a.training)

    # Switching gives each its own outputs, always the same ones; without either, the base's own.
    said = [logits_of(first, data), logits_of(second, data)]
    assert all(logits.isfinite().all() for logits in said)
    assert not torch.equal(*said)
    for _ in range(2):
        assert torch.equal(logits_of(first, data), said[0])
        assert torch.equal(logits_of(second, data), said[1])
    with second.disabled():
        assert bits(loaded.model) == before
        bare = bare_outputs(second, data)
    second.use()
    moved = not torch.equal(bare_outputs(second, data), bare)
    assert moved == (strategy != "linear_probe" or task == "causal-lm")  # a probe's head is outside of the model

    # On disk and back.
    first.save(tmp_path / "adapter")
    tensors = {name: tensor.detach().clone() for name, tensor in first.attachment.tensors.items()}
    scores = first.evaluate(data).metrics
    first.detach()
    assert torch.equal(logits_of(second, data), said[1])
    second.detach()
    assert bits(loaded.model) == before
    again = engine.load_adapter(tmp_path / "adapter", base=loaded)
    assert again.attachment.tensors.keys() == tensors.keys()
    assert all(torch.equal(again.attachment.tensors[name], tensor) for name, tensor in tensors.items())
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    known = names_class(config, again.attachment.task.preprocessing.facts)  # in PEFT's form names are transformers'
    file = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    saved = {from_file(name, known): tensor for name, tensor in file.items()}
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in saved.items())
    assert saved.keys() == tensors.keys() or strategy == "full"
    assert torch.equal(logits_of(again, data), said[0])
    assert again.evaluate(data).metrics == scores
    again.detach()
    assert bits(loaded.model) == before


def test_all_strategies_at_once(engine: Any, base: Any, data_for: Any, bits: Any) -> None:
    """Four adapters of four kinds on one base: any order of use, any order of leaving."""
    loaded, data = base("minilm"), data_for("text-classification")
    before = bits(loaded.model)
    adapters = {name: short_run(engine, loaded, data, name, 0) for name in STRATEGIES}
    said = {name: logits_of(adapter, data) for name, adapter in adapters.items()}
    for name in ("full", "lora", "prefix", "full", "linear_probe", "lora", "prefix", "lora", "full", "prefix"):
        assert torch.equal(logits_of(adapters[name], data), said[name]), name
    for name in ("lora", "full", "linear_probe", "prefix"):
        adapters.pop(name).detach()
        for other, adapter in adapters.items():
            assert torch.equal(logits_of(adapter, data), said[other]), f"{other} after {name} left"
    assert bits(loaded.model) == before


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
@pytest.mark.parametrize("strategy", ["lora", "prefix"])
@pytest.mark.parametrize(("model", "task"), [("minilm", "text-classification"), ("smollm2-4", "causal-lm")])
def test_gradients_pass_a_quantized_base(
    base: Any, put: Any, data_for: Any, bits: Any, model: str, task: str, strategy: str, quantization: str
) -> None:
    """Even after a forward without gradients, which is when bitsandbytes may repack 4-bit weights in place.

    On NF4 they are the gradients of the same adapter on a dense base that holds the dequantized weights.
    """
    data, settings = data_for(task), STRATEGIES[strategy]
    loaded = base(model, quantization)
    before = bits(loaded.model)
    mounted = put(loaded, data, strategy, settings)
    with torch.no_grad():
        for name, parameter in mounted.attachment.parameters.items():
            if "lora_B" in name:
                parameter.normal_(std=0.02)  # at zero, it would hide the gradient of the other factor
        mounted.attachment.logits(mounted.batch([0, 1, 2]))
    torch.manual_seed(7)
    gradients = mounted.gradients([0, 1, 2])
    for name, gradient in gradients.items():
        assert gradient.isfinite().all(), name
        assert float(gradient.abs().max()) > 0, f"no gradient reaches {name}"
    start = {name: tensor.detach().clone() for name, tensor in mounted.attachment.tensors.items()}

    dense = base(model)
    copies = dict.fromkeys(dense.map.linears, mounted.attachment.view)
    suffix = ".base_layer" if strategy == "lora" else ""
    weights = {path: view.weight(f"{path}{suffix}").float() for path, view in copies.items()}
    reference = put(dense, data, strategy, settings)
    reference.attachment.load_tensors(start)
    originals = {}
    for path, weight in weights.items():
        layer = reference.attachment.view.module(f"{path}{suffix}")
        originals[path], layer.weight.data = layer.weight.data, weight
    try:
        torch.manual_seed(7)
        wanted = reference.gradients([0, 1, 2])
    finally:
        for path in weights:
            reference.attachment.view.module(f"{path}{suffix}").weight.data = originals[path]
    for name, gradient in gradients.items():
        # int8 also rounds the activations, to 8 bits a row.
        limit = 1e-3 if quantization == "nf4" else 0.5
        assert float((gradient - wanted[name]).norm() / wanted[name].norm()) < limit, name

    losses = mounted.fit(steps=3, batch_size=6, learning_rate=1e-2, schedule="constant", warmup=0.0).losses
    assert all(map(math.isfinite, losses))
    assert all(not torch.equal(tensor, start[name]) for name, tensor in mounted.attachment.tensors.items())
    mounted.attachment.detach()
    assert bits(loaded.model) == before


@pytest.mark.parametrize("strategy", ["lora", "prefix", "full"])
def test_micro_batches_change_nothing(base: Any, put: Any, data_for: Any, strategy: str) -> None:
    """Token-weighted: rows of different lengths in micro-batches of 1 give the losses of the whole batch."""
    loaded, data = base("smollm2-4"), data_for("causal-lm")
    settings = {**STRATEGIES[strategy], **({"top_layers": 1} if strategy == "full" else {})}
    losses = []
    for size in (6, 1):
        mounted = put(loaded, data, strategy, settings)
        losses.append(mounted.fit(steps=3, batch_size=6, micro_batch_size=size, learning_rate=1e-3).losses)
        mounted.attachment.detach()
    assert losses[1] == pytest.approx(losses[0], rel=2e-5)
    # And the first is the mean over all supervised tokens, computed by hand.
    mounted = put(loaded, data, "lora", {"rank": 4})
    batch = mounted.batch(list(range(6)))
    loaded.activate(None)
    with torch.no_grad():
        logits = loaded.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    by_hand = functional.cross_entropy(logits.flatten(0, 1), batch["targets"][:, 1:].flatten(), ignore_index=-100)
    if strategy != "prefix":
        assert losses[0][0] == pytest.approx(float(by_hand), rel=1e-5)
