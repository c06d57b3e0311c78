"""Batch normalisation: a pre-trained base keeps its statistics, one with random weights learns them."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

import adapterhub_lite as ah
from adapterhub_lite.base.batch_norm import batch_norms
from adapterhub_lite.data.batches import epoch_batches

from .conftest import equal
from .test_resume import Killed, killed_after


def configured(**options):
    return ah.TrainConfig(
        **{"steps": 6, "batch_size": 4, "learning_rate": 1e-2, "schedule": "constant", "warmup": 0, **options}
    )


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_random_weights_learn_as_a_plain_loop_does(engine, references, pictures):
    base = engine.load_base(f"scratch:1:{references('tiny-resnet')}", dtype="float32")
    before, plain = state(base.model), copy.deepcopy(base.model)
    config = configured(weight_decay=0.01, clip=1e9)
    torch.manual_seed(0)
    adapter = engine.train(base, pictures, strategy="full", config=config)
    head = nn.Linear(32, 2)
    start = engine.train(base, pictures, strategy="full", config=configured(learning_rate=1e-30)).attachment
    head.load_state_dict(start.head.state_dict())

    pixels = base.processor([Image.open(path) for path in pictures.inputs], return_tensors="pt")["pixel_values"]
    trained = [p for name, p in plain.named_parameters() if "running" not in name]
    for parameter in trained:
        parameter.requires_grad_(True)
    decayed = [p for p in [*trained, *head.parameters()] if p.dim() > 1]
    others = [p for p in [*trained, *head.parameters()] if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": others, "weight_decay": 0.0}], lr=1e-2)
    plain.train()
    assert {norm.momentum for norm in batch_norms(plain)} == {0.1}, "torch's default"
    order = [rows for epoch in range(2) for rows in epoch_batches(12, 4, seed=config.seed, epoch=epoch)]
    for rows in order:
        hidden = plain(pixel_values=pixels[rows]).pooler_output.flatten(1)
        loss = nn.functional.cross_entropy(head(hidden), torch.tensor([pictures.targets[row] for row in rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    base.activate(adapter.attachment.view)
    ours = {name: tensor for name, tensor in base.model.state_dict().items() if "num_batches" not in name}
    theirs = plain.state_dict()
    for name, tensor in ours.items():
        assert torch.allclose(tensor, theirs[name], rtol=1e-3, atol=1e-4), name
        assert not torch.equal(tensor, before[name]), name
    adapter.detach()
    start.detach()
    assert equal(state(base.model), before), "the base is as it was, its counters of batches too"
    assert not any(module.training or module._forward_pre_hooks for module in base.model.modules())


def test_others_leave_statistics_alone(engine, references, pictures):
    reference = references("tiny-resnet")
    for base, strategy in ((reference, "full"), (reference, "lora"), (f"scratch:1:{reference}", "lora")):
        loaded = engine.load_base(base, dtype="float32")
        adapter = engine.train(loaded, pictures, strategy=strategy, config=configured())
        assert not adapter.attachment.statistics
        assert not any("running" in name for name in adapter.attachment.tensors)
        loaded.activate(adapter.attachment.view)
        statistics = {name: tensor for name, tensor in loaded.model.state_dict().items() if "running" in name}
        adapter.detach()
        bare = state(loaded.model)
        assert statistics
        assert all(torch.equal(tensor, bare[name]) for name, tensor in statistics.items())


def test_statistics_are_saved_with_the_adapter(engine, references, pictures, tmp_path: Path):
    """Batches of 11 of 12 rows: the last of each epoch is one picture, whose last stage has one value a channel."""
    base = engine.load_base(f"scratch:1:{references('tiny-resnet')}", dtype="float32")
    config = configured(batch_size=11, average=True)
    adapter = engine.train(base, pictures, strategy="full", config=config, eval_data=pictures)
    adapter.save(tmp_path / "adapter")
    again = engine.load_adapter(tmp_path / "adapter")
    first, second = ([p.probabilities for p in trained.predict(list(pictures.inputs))] for trained in (adapter, again))
    assert first == second


def test_a_resumed_run_ends_in_the_same_statistics(engine, references, pictures, tmp_path, monkeypatch):
    reference = f"scratch:1:{references('tiny-resnet')}"
    options = {"strategy": "full", "config": configured(checkpoint_every=2, eval_every=2), "eval_data": pictures}
    whole = engine.train(engine.load_base(reference), pictures, run_folder=tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        killed_after(patch, 3)
        base = engine.load_base(reference)
        with pytest.raises(Killed):
            engine.train(base, pictures, run_folder=tmp_path / "cut", **options)
    resumed = engine.train(engine.load_base(reference), pictures, run_folder=tmp_path / "cut", resume=True, **options)
    assert equal(resumed.attachment.tensors, whole.attachment.tensors)
    assert resumed.metrics == whole.metrics
