"""The head of a merged classifier: an adapter that holds nothing else, on the merged model as its base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.storage import Manifest
from adapterhub_lite.training.attachment import Attachment, attach
from adapterhub_lite.training.solve import find_solver

if TYPE_CHECKING:
    from adapterhub_lite.base.loading import Base
    from adapterhub_lite.engine import Engine
    from adapterhub_lite.tasks.task import Task

HEAD_FOLDER = "head"


def attach_head(engine: Engine, base: Base, task: Task, head: Mapping[str, Tensor]) -> Attachment:
    """Put a trained head on a merged base, by the strategy that fits heads: it changes nothing in the base.

    Args:
        engine: Knows that strategy.
        base: The merged model.
        task: The adapter's task.
        head: The head's tensors by the names they have in the adapter.
    """
    provided, _ = find_solver(engine.strategy_shelf)
    options = engine.strategy_shelf.configure(provided, {})
    with torch.random.fork_rng(devices=[]):
        attachment = attach(base, task, provided, engine.strategy_shelf.load(provided), options)
    attachment.load_tensors(head)
    return attachment


def save_head(engine: Engine, attachment: Attachment, manifest: Manifest, items: list[object], folder: Path) -> None:
    """Write the head into the folder of the merged model; data and scores are those of the adapter."""
    adapter = Adapter.recorded(attachment, engine.plugins, engine.progress, manifest, probe_inputs=items)
    adapter.save(folder)
    folder.with_name(f".{folder.name}.lock").unlink(missing_ok=True)  # nobody else writes here before the commit
