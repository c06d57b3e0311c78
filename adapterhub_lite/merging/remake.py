"""An adapter made of tensors that were not trained here: put on its base once, checked, probed and saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.errors import AdapterCorruptError, NotSupportedError
from adapterhub_lite.merging.report import probe_items
from adapterhub_lite.plugins.spec import ProvidedStrategy
from adapterhub_lite.storage import Manifest
from adapterhub_lite.tasks.task import Task
from adapterhub_lite.training.attachment import Attachment, attach

if TYPE_CHECKING:
    from adapterhub_lite.base.loading import Base
    from adapterhub_lite.engine import Engine


def fill(
    engine: Engine,
    base: Base,
    task: Task,
    provided: ProvidedStrategy,
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
) -> Attachment:
    """Attach a strategy and put in tensors that come from elsewhere: all of them, and into every slot.

    Raises:
        NotSupportedError: a tensor without a slot, a slot without a tensor, or another shape; names it.
        AdapterCorruptError: a value that is not finite.
    """
    options = engine.strategy_shelf.configure(provided, settings)
    with torch.random.fork_rng(devices=[]):
        attachment = attach(base, task, provided, engine.strategy_shelf.load(provided), options)
    try:
        slots = attachment.tensors
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
        attachment.load_tensors(tensors)
    except BaseException:
        attachment.detach()
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
    made_by = manifest.strategy
    provided = engine.strategy_shelf.resolve(made_by.name, dist=made_by.dist, version=made_by.version)
    attachment = fill(engine, base, task, provided, settings, tensors)
    probes: Sequence[Any] = manifest.probe.inputs if manifest.probe is not None else []
    adapter = Adapter.recorded(
        attachment, engine.plugins, engine.progress, manifest, differences=differences if force else [],
        probe_inputs=probe_items(task, [task.item_of_probe(value) for value in probes]),
    )  # fmt: skip
    try:
        adapter.save(out)
    finally:
        adapter.detach()
