"""Leaving out dropout in the modules of a base, whose weights an adapter leaves alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.dropout import _DropoutNd


@contextmanager
def without_dropout(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Set the rates of dropout of modules to 0 for the length of a `with` block, those in attributes such as `drop_prob` too."""
    rates: list[tuple[nn.Module, str, float]] = []
    for module in modules:
        for name, value in vars(module).items():
            is_rate = "drop" in name or (name == "p" and isinstance(module, _DropoutNd))
            if is_rate and type(value) is float:
                rates.append((module, name, value))
    for module, name, _ in rates:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        for module, name, rate in rates:
            setattr(module, name, rate)
