"""Saved adapters as settings and tensors: reading one without its base, and saving one that was not trained here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from adapterhub_lite.adapter.peft_names import from_file, names_class
from adapterhub_lite.adapter.probe import probe_items
from adapterhub_lite.adapter.recorded import recorded_adapter
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.strategy import Strategy
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import AdapterCorruptError, NotSupportedError
from adapterhub_lite.plugins.spec import ProvidedStrategy, StrategyConfig
from adapterhub_lite.plugins.strategy_call import StrategyCalls
from adapterhub_lite.scoring.decision import PLAIN
from adapterhub_lite.storage import Manifest, open_adapter
from adapterhub_lite.tasks.head_class import HeadClass
from adapterhub_lite.tasks.task import Preprocessing, Task
from adapterhub_lite.training.attachment import HEAD, Attachment, attach


@dataclass(frozen=True)
class SavedAdapter:
    """What an adapter's directory holds."""

    path: Path
    manifest: Manifest
    config_file: dict[str, Any]
    """Its `adapter_config.json`: PEFT's own where the strategy saves in PEFT's form."""
    body: dict[str, Tensor]
    """The strategy's tensors, by the names they have on the base."""
    head: dict[str, Tensor]
    """The task's head, "head." before its names; empty for a language model."""
    head_class: HeadClass | None
    """The class whose names the tensors have in the file; None where PEFT opens the adapter without its head."""


def open_saved(path: Path) -> SavedAdapter:
    """Read and check an adapter's directory.

    Raises:
        AdapterNotFoundError, AdapterCorruptError: nothing there, or not what was saved.
    """
    stored, payload = open_adapter(path)
    known = names_class(stored.config, Preprocessing.from_record(stored.manifest.task.preprocessing).facts)
    tensors = {from_file(name, known): tensor for name, tensor in safetensors.torch.load(payload).items()}
    head = {name: tensor for name, tensor in tensors.items() if name.startswith(HEAD)}
    body = {name: tensor for name, tensor in tensors.items() if name not in head}
    return SavedAdapter(path, stored.manifest, stored.config, body, head, known)


def strategy_of(engine: Engine, saved: SavedAdapter) -> tuple[Strategy, StrategyConfig]:
    """Load the strategy that made an adapter, with the config it was saved with.

    Raises:
        StrategyNotFoundError: its plug-in is not installed.
    """
    provided = provider_of(engine, saved.manifest)
    return engine.strategy_shelf.load(provided), engine.strategy_shelf.configure(
        provided, saved.manifest.strategy.config
    )


def provider_of(engine: Engine, manifest: Manifest) -> ProvidedStrategy:
    """The strategy that made an adapter, with its plug-in."""
    made_by = manifest.strategy
    return engine.strategy_shelf.resolve(made_by.name, dist=made_by.dist, version=made_by.version)


@contextmanager
def calling(provided: ProvidedStrategy, method: str, adapter: Path) -> Iterator[None]:
    """Guard a call into a strategy, and put an adapter's path in front of the message with which it refuses.

    Raises:
        PluginError: whatever else than an error of ours it raises, naming the plug-in.
    """
    try:
        with StrategyCalls(provided).into(method):
            yield
    except NotSupportedError as error:
        raise NotSupportedError(f"{adapter}: {error}") from error


def fill(
    engine: Engine,
    base: Base,
    task: Task,
    provided: ProvidedStrategy,
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
) -> Attachment:
    """Attach a strategy and fill it with tensors from elsewhere: each has a slot, and each slot has one.

    Raises:
        NotSupportedError: a tensor without a slot, a slot without a tensor, or another shape; names it.
        AdapterCorruptError: a value that is not finite.
    """
    options = engine.strategy_shelf.configure(provided, settings)
    with torch.random.fork_rng(devices=[]):
        attachment = attach(base, task, provided, engine.strategy_shelf.load(provided), options)
    try:
        slots = attachment.slots
        problems = [f"'{name}' has no place in this base" for name in tensors if name not in slots]
        problems += [f"'{name}' is missing" for name in slots if name not in tensors]
        problems += [
            f"'{name}' is {tuple(tensors[name].shape)} where {tuple(slot.shape)} is needed"
            for name, slot in slots.items()
            if name in tensors and tensors[name].shape != slot.shape
        ]
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise NotSupportedError(f"the tensors do not fit '{base.reference}': {problems[0]}{more}")
        broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
        if broken:
            raise AdapterCorruptError(f"tensor '{broken[0]}' holds values that are not finite")
        attachment.load_saved(tensors, {})
    except BaseException:
        attachment.discard()
        raise
    return attachment


def remake(
    engine: Engine,
    manifest: Manifest,
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    out: Path,
    *,
    base: Base | str | None,
    device: str,
    force: bool,
) -> None:
    """Save an adapter like the one of `manifest`, with other settings and tensors.

    Raises:
        BaseMismatchError: a base that is not the one of `manifest`.
    """
    base, differences = engine.base_for(manifest.base, base, device=device, force=force)
    task = engine.recorded_task(manifest.task)
    task.decision = PLAIN  # thresholds were chosen for the outputs of other tensors
    provided = provider_of(engine, manifest)
    attachment = fill(engine, base, task, provided, settings, tensors)
    probes: Sequence[Any] = manifest.probe.inputs if manifest.probe is not None else []
    adapter = recorded_adapter(
        attachment, engine.plugins, engine.progress, manifest, differences=differences if force else [],
        probe_inputs=probe_items(task, [task.item_of_probe(value) for value in probes]),
    )  # fmt: skip
    try:
        adapter.save(out)
    finally:
        adapter.detach()
