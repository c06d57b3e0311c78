"""A base, the adapters that four strategies make for it, and bases that are almost it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from almost import EDITS, REVISIONS, write_llama

if TYPE_CHECKING:
    from adapterhub_lite.data.dataset import Dataset
    from adapterhub_lite.engine import Engine
    from tests.conftest import LoadBase


@pytest.fixture(scope="session")
def right_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("bases") / "right")


@pytest.fixture(scope="session")
def wrong_base(right_base: Path) -> Callable[[str], str]:
    """Write a base that is almost the right one, and return its reference."""

    def make(name: str) -> str:
        folder = right_base.with_name(name.replace(" ", "-"))
        if not folder.exists():
            change, _ = EDITS[name]
            if isinstance(change, dict):
                write_llama(folder, **change)
            else:
                shutil.copytree(right_base, folder)
                change(folder)
        return str(folder)

    return make


@pytest.fixture(scope="session")
def rows() -> Dataset:
    from tests.reading import load_data

    texts = ("one two three four five", "good bank bad bill", "the cold day of the bird", "a tree is a tree")
    return load_data([{"text": text} for text in texts], "causal-lm")


@pytest.fixture(scope="session")
def adapters(engine: Engine, load: LoadBase, right_base: Path, rows: Dataset) -> Callable[[str], Path]:
    """The adapter that a strategy makes for the right base."""
    from adapterhub_lite.training.config import TrainConfig

    def make(strategy: str) -> Path:
        path = right_base.parent / "adapters" / strategy
        if not path.exists():
            adapter = engine.train(
                load(right_base),
                rows,
                strategy=strategy,
                config=TrainConfig(epochs=2, batch_size=2, learning_rate=1e-2),
            )
            adapter.save(path)
            adapter.detach()
        return path

    return make


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A hub cache with two revisions of one model, which differ in their weights."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--tiny"
    for seed, revision in enumerate(REVISIONS):
        write_llama(repository / "snapshots" / revision, seed=seed)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISIONS[0])
    return "someone/tiny"
