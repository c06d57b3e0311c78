"""Runs of tiny models built in code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.engine import Engine
from adapterhub_lite.interrupt import Interrupt
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.training.config import TrainConfig
from tests.listening import Listening


@dataclass
class Ran:
    """A run that ended."""

    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]
    metrics: dict[str, float]
    said: list[str]


@pytest.fixture
def train() -> Callable[..., Ran]:
    """Train LoRA with dropout on a tiny model, by default the encoder; options are those of TrainConfig."""
    from adapterhub_causal_lm.tiny import completions
    from adapterhub_lite.testing.models import tiny_base
    from adapterhub_text.tiny import texts

    def train(
        folder: Path | None = None,
        *,
        resume: bool = False,
        model: str = "encoder",
        data: Dataset | None = None,
        held_out: Dataset | None = None,
        settings: dict[str, Any] | None = None,
        strategy: str = "lora",
        seed_of_base: int = 0,
        quantization: str = "none",
        dtype: torch.dtype | None = None,
        interrupt: Interrupt | None = None,
        plugins: Plugins | None = None,
        save: Path | None = None,
        **options: Any,
    ) -> Ran:
        base = tiny_base(model, seed=seed_of_base, quantization=quantization, dtype=dtype or torch.float32)
        data = data or (texts() if model == "encoder" else completions())
        listening = Listening()
        engine = Engine(plugins=plugins, progress=listening)
        config = TrainConfig(**{"steps": 6, "batch_size": 8, "micro_batch_size": 4, "learning_rate": 1e-2, **options})
        settings = settings if settings is not None else {"rank": 2, "dropout": 0.2} if strategy == "lora" else {}
        adapter = engine.train(
            base, data, strategy=strategy, settings=settings, config=config, eval_data=held_out, run_folder=folder,
            resume=resume, interrupt=interrupt,
        )  # fmt: skip
        if save is not None:
            adapter.save(save)
        tensors = {name: tensor.detach().clone() for name, tensor in adapter.attachment.tensors.items()}
        return Ran(tensors, adapter.training, adapter.metrics, listening.lines)

    return train


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of tensors are the same in names, order and bits."""
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of the log and of every file of every checkpoint: all that must not depend on interruptions."""
    files = [folder / "metrics.jsonl", *sorted((folder / "checkpoints").glob("step-*/*"))]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
