"""Small adapters trained once, and the command line inside the test process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TEXTS = [
    {"text": text, "label": label}
    for text, label in [
        ("good money", "good"), ("a good card", "good"), ("my good bank", "good"), ("good one", "good"),
        ("bad money", "bad"), ("a bad card", "bad"), ("my bad bank", "bad"), ("bad one", "bad"),
    ]
]  # fmt: skip


@pytest.fixture(scope="session")
def trained(
    engine: Any, load: Callable[..., Any], references: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A LoRA adapter on a tiny BERT, with held-out scores. Copy it before changing it."""
    from adapterhub_lite.training.config import TrainConfig

    base = load(references("tiny-bert"))
    data = engine.load_data(TEXTS, "text-classification")
    adapter = engine.train(base, data, strategy="lora", eval_data=data, config=TrainConfig(steps=2, batch_size=4))
    path = tmp_path_factory.mktemp("trained") / "words"
    adapter.save(path)
    adapter.detach()
    return path


@pytest.fixture
def adapter(trained: Path, tmp_path: Path) -> Path:
    """A copy of `trained` to damage."""
    return Path(shutil.copytree(trained, tmp_path / "words"))
