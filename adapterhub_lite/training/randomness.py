"""Every stream of random numbers that a model or a strategy may draw from: torch, CUDA, Python and NumPy."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of all streams as tensors of fixed sizes, as a checkpoint holds them."""
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state = {
        "torch": torch.get_rng_state(),
        "python": torch.from_numpy(np.array((version, *words), dtype=np.int64)),
        "python_gauss": torch.tensor([float("nan") if gauss is None else gauss], dtype=torch.float64),
        "numpy": torch.from_numpy(np.append(keys, (position, has_gauss)).astype(np.int64)),
        "numpy_gauss": torch.tensor([float(cached)], dtype=torch.float64),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Put all streams where `random_state` found them."""
    version, *words = state["python"].tolist()
    gauss = float(state["python_gauss"])
    random.setstate((version, tuple(words), None if gauss != gauss else gauss))
    *keys, position, has_gauss = state["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, float(state["numpy_gauss"])))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from a seed inside a `with` block; the program's own streams go on afterwards as if nothing had been drawn."""
    with restored(device):
        seed_all(seed)
        yield


@contextmanager
def restored(device: torch.device) -> Iterator[None]:
    """Put all streams back at the end of a `with` block."""
    before = random_state(device)
    try:
        yield
    finally:
        set_random_state(before, device)


def seed_all(seed: int) -> None:
    """Seed all streams."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
