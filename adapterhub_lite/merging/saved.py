"""A saved adapter, read but not put on a base, and the strategy that made it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
from torch import Tensor

from adapterhub_lite.base.strategy import Strategy
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.plugins.spec import StrategyConfig
from adapterhub_lite.storage import Manifest, open_adapter
from adapterhub_lite.training.attachment import HEAD

if TYPE_CHECKING:
    from adapterhub_lite.engine import Engine


@dataclass(frozen=True)
class SavedAdapter:
    """What an adapter's directory holds."""

    path: Path
    manifest: Manifest
    config_file: dict[str, Any]
    """Its `adapter_config.json`: PEFT's own where the strategy saves in PEFT's form."""
    body: dict[str, Tensor]
    """The strategy's tensors."""
    head: dict[str, Tensor]
    """The task's head, by the names in the file; empty for a language model."""


def open_saved(path: Path) -> SavedAdapter:
    """Read and check an adapter's directory.

    Raises:
        AdapterNotFoundError, AdapterCorruptError: nothing there, or not what was saved.
    """
    stored, payload = open_adapter(path)
    tensors = safetensors.torch.load(payload)
    head = {name: tensor for name, tensor in tensors.items() if name.startswith(HEAD)}
    body = {name: tensor for name, tensor in tensors.items() if name not in head}
    return SavedAdapter(path, stored.manifest, stored.config, body, head)


def strategy_of(engine: Engine, saved: SavedAdapter) -> tuple[Strategy, StrategyConfig]:
    """Load the strategy that made an adapter, with the config it was saved with.

    Raises:
        StrategyNotFoundError: its plug-in is not installed.
    """
    made_by = saved.manifest.strategy
    provided = engine.strategy_shelf.resolve(made_by.name, dist=made_by.dist, version=made_by.version)
    return engine.strategy_shelf.load(provided), engine.strategy_shelf.configure(provided, made_by.config)


@contextmanager
def refused_by_name(adapter: Path) -> Iterator[None]:
    """Put an adapter's name in front of what a strategy says that it cannot do with it."""
    try:
        yield
    except NotSupportedError as error:
        raise NotSupportedError(f"{adapter}: {error}") from error
