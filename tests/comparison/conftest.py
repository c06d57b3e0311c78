"""Rows that tiny models can learn, and a cache of its own for each test."""

from __future__ import annotations

import numpy as np
import pytest

import adapterhub_lite as ah
from adapterhub_lite.progress import Silent
from tests.conftest import WORDS

KINDS = {"card": WORDS[:14], "money": WORDS[10:24], "rate": WORDS[20:34]}


def labelled(n, seed=0, kinds=3):
    """Texts of some kinds that share words, and a group for every two of one kind."""
    random = np.random.default_rng(seed)
    names = list(KINDS)[:kinds]
    return [
        {"text": " ".join(random.choice(KINDS[names[row % kinds]], 6)), "label": names[row % kinds], "who": row // 6}
        for row in range(n)
    ]


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """The folder of what comparisons keep."""
    monkeypatch.setenv("ADAPTERHUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "comparison"


@pytest.fixture
def comparing():
    """An engine that compares and says nothing."""
    return ah.Engine(progress=Silent())
