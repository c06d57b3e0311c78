"""Saved adapters, through the engine's own `save` and `load_adapter`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from adapterhub_lite.errors import AdapterCorruptError
from adapterhub_lite.plugins.strategy_call import StrategyFault
from adapterhub_lite.storage import TENSORS, open_adapter, write_adapter
from adapterhub_lite.testing.bench import Bench, distance
from adapterhub_lite.testing.check import Check, CheckFailed, demand

PREDICTION_TOLERANCE = 1e-5


def check_save_load(bench: Bench) -> None:
    """A saved adapter loaded on a fresh base predicts the same, and is saved again to the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path, again = Path(folder, "adapter"), Path(folder, "again")
        attachment = bench.attach(bench.base())
        bench.train(attachment, 2)
        expected = bench.predictions(attachment)
        bench.adapter(attachment).save(path)
        torch.manual_seed(12345)  # what is drawn anew on loading must not matter
        try:
            loaded = bench.engine.load_adapter(path, base=bench.base())
        except AdapterCorruptError as error:
            raise CheckFailed(f"what was saved is refused on loading: {error}") from error
        saved = safetensors.torch.load_file(path / TENSORS)
        for name, tensor in saved.items():
            slot = loaded.attachment.slots.get(name)
            demand(slot is not None and torch.equal(slot, tensor), f"'{name}' is not loaded as it was saved")
        difference = distance(bench.predictions(loaded.attachment), expected)
        demand(
            difference <= PREDICTION_TOLERANCE,
            f"the loaded adapter's outputs differ by {difference:.2g} of the largest; something that matters is not saved",
        )
        loaded.save(again)
        same = (path / TENSORS).read_bytes() == (again / TENSORS).read_bytes()
        demand(same, "saving the loaded adapter again gives another file")


def check_strict_load(bench: Bench) -> None:
    """A file that lacks a tensor, has one more or one of another shape is refused, naming the tensor."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "adapter")
        attachment = bench.attach(bench.base())
        bench.train(attachment, 1)
        bench.adapter(attachment).save(path)
        saved = safetensors.torch.load_file(path / TENSORS)
        victim = next(iter(saved))
        spoilt: dict[str, tuple[str, dict[str, Tensor]]] = {
            "lacks a tensor": (victim, {name: tensor for name, tensor in saved.items() if name != victim}),
            "has one more": ("stranger", {**saved, "stranger": torch.zeros(1)}),
            "has one of another shape": (
                victim,
                {**saved, victim: saved[victim][None].repeat(2, *[1] * saved[victim].dim())},
            ),
        }
        base = bench.base()
        for what, (name, tensors) in spoilt.items():
            stored, _ = open_adapter(path)
            other = Path(folder, "spoilt")
            payload = safetensors.torch.save(tensors, metadata={"format": "pt"})
            write_adapter(other, tensors=payload, config=stored.config, manifest=stored.manifest)
            try:
                bench.engine.load_adapter(other, base=base).detach()
            except AdapterCorruptError as error:
                demand(name in str(error), f"a file that {what} is refused without naming '{name}': {error}")
            except StrategyFault:
                raise
            except Exception as error:
                raise CheckFailed(f"a file that {what} ('{name}') ends in {type(error).__name__}: {error}") from error
            else:
                raise CheckFailed(f"a file that {what} ('{name}') is loaded without complaint")


CHECKS = (Check(check_save_load), Check(check_strict_load))
