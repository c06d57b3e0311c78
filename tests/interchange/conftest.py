"""Small adapters trained once, and the command line inside the test process."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

TEXTS = [
    {"text": text, "label": label}
    for text, label in [
        ("good money", "good"), ("a good card", "good"), ("my good bank", "good"), ("good one", "good"),
        ("bad money", "bad"), ("a bad card", "bad"), ("my bad bank", "bad"), ("bad one", "bad"),
    ]
]  # fmt: skip


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Call `adapterhub-lite` with arguments; gives exit code and what was printed."""
    from adapterhub_lite.cli import main

    def call(*arguments: Any) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["adapterhub-lite", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return call


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
