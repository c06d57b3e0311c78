"""`import_peft`: an adapter that PEFT trained, as one of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.adapter.probe import probe_items
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.strategy import PeftReader
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError, NotSupportedError
from adapterhub_lite.merging.peft_files import PREFIX, PeftFiles, local_names, read_peft
from adapterhub_lite.merging.saved import calling, fill
from adapterhub_lite.plugins.shelf import Shelf
from adapterhub_lite.plugins.spec import Provided, ProvidedStrategy
from adapterhub_lite.storage import Manifest
from adapterhub_lite.tasks.spec import TaskSpec
from adapterhub_lite.tasks.task import Preprocessing
from adapterhub_lite.tasks.text import checked_length

GENERATION, CLASSIFICATION = "CAUSAL_LM", "SEQ_CLS"
"""PEFT's task types: without a head, and with one."""


@dataclass(frozen=True)
class Imported:
    """What an import made."""

    path: Path
    strategy: str
    task: str
    tensors: int


def import_peft(
    engine: Engine,
    folder: Path,
    out: Path,
    *,
    base: Base | str | None = None,
    task: str | None = None,
    labels: list[str] | None = None,
    quantization: str = "none",
    dtype: str = "auto",
    device: str = "auto",
) -> Imported:
    """Import an adapter that PEFT saved.

    The first installed strategy that can read the method takes it over; ours are asked first.

    Args:
        engine: Loads the base and the strategies.
        folder: What `PeftModel.save_pretrained` wrote.
        out: Where to save.
        base: A base or a reference; by default the one that PEFT recorded.
        task: A task that PEFT has a type for; by default the one of the type that PEFT recorded.
        labels: Names of a classifier's labels, in the order of its outputs.
        quantization: How to load the base.
        dtype: What to compute in.
        device: Where.

    Raises:
        AdapterNotFoundError, AdapterCorruptError: no such adapter.
        NotSupportedError: a method, setting or tensor that cannot be represented here; names it.
        ConfigError: a task or labels that are missing.
    """
    files = read_peft(folder)
    if base is None or isinstance(base, str):
        reference = base or files.config.get("base_model_name_or_path")
        if not reference:
            raise ConfigError(f"{folder} does not say what it was trained on; give --base")
        base = engine.load_base(reference, quantization=quantization, dtype=dtype, device=device)
    base.activate(None)
    head, body = _split_head(files)
    provided_task = _task_of(files, engine.task_shelf, task, base)
    name, kind = provided_task.spec.name, provided_task.spec.peft_task_type
    if bool(head) == (kind == GENERATION):
        other = _of_type(engine.task_shelf)[CLASSIFICATION if head else GENERATION].spec.name
        raise NotSupportedError(
            f"{folder}: {f'a head was saved with it, and {name} has none' if head else f'{name} needs a head'}; "
            + (f"use --task {other}" if head else f"PEFT saved none; use --task {other}, or train one here")
        )
    if head and len(labels or ()) != len(head["head.weight"]):
        raise ConfigError(f"{folder} has {len(head['head.weight'])} outputs; name them with --labels a,b,...")
    provided, settings, tensors = _taken_over(engine, files, _local(body, base), base, provided_task)
    form, pooling = ("text", None) if kind == GENERATION else (None, "last")
    length = checked_length(base, None, 512) if base.tokenizer is not None else 512
    made = engine.task_shelf.load(provided_task)(
        labels or (), Preprocessing(max_length=length, pooling=pooling, form=form)
    )
    made.name = provided_task.recorded
    attachment = fill(engine, base, made, provided, settings, {**tensors, **head})
    facts = {"imported_from": str(folder), "peft_version": str(files.config.get("peft_version"))}
    adapter = Adapter(
        attachment, engine.plugins, engine.progress, training=facts, probe_inputs=probe_items(made, [])
    )  # fmt: skip
    try:
        manifest: Manifest = adapter.save(out)
    finally:
        adapter.detach()
    return Imported(out, manifest.strategy.name, name, len(tensors) + len(head))


def _of_type(task_shelf: Shelf[TaskSpec]) -> dict[str, Provided[TaskSpec]]:
    """For each of PEFT's task types the first task that has it, which is ours."""
    return {task.spec.peft_task_type: task for task in reversed(task_shelf.offered) if task.spec.peft_task_type}


def _task_of(files: PeftFiles, task_shelf: Shelf[TaskSpec], wanted: str | None, base: Base) -> Provided[TaskSpec]:
    """The task that is wanted, else the one of the type that PEFT recorded."""
    recorded = files.config.get("task_type")
    by_type = _of_type(task_shelf)
    if wanted is not None:
        task = next(
            (t for t in task_shelf.offered if t.spec.peft_task_type and wanted in (t.spec.name, t.qualified)), None
        )
    elif recorded in (None, "FEATURE_EXTRACTION") and base.map.output is not None:
        task = by_type.get(GENERATION)
    else:
        task = by_type.get(str(recorded))
    if task is None:
        choices = " or ".join(f"--task {by_type[kind].spec.name}" for kind in sorted(by_type))
        raise ConfigError(f"{files.folder}: task type {recorded} has no task here; give {choices}")
    return task


def _taken_over(
    engine: Engine, files: PeftFiles, tensors: dict[str, Tensor], base: Base, task: Provided[TaskSpec]
) -> tuple[ProvidedStrategy, Mapping[str, Any], Mapping[str, Tensor]]:
    """The first strategy that can read an adapter, with the settings and tensors it gets out of it."""
    view = base.view(task.recorded, generates=task.spec.peft_task_type == GENERATION)
    try:
        for provided, reader in engine.strategy_shelf.able(PeftReader):
            with calling(provided, "from_peft", files.folder):
                made = reader.from_peft(view, files.config, tensors)
            if made is not None:
                return provided, *made
    finally:
        view.unmount()
        view.forget()
    raise NotSupportedError(f"{files.folder}: PEFT's method '{files.method}' is provided by no installed strategy")


def _local(tensors: Mapping[str, Tensor], base: Base) -> dict[str, Tensor]:
    """The tensors, those of numbers in fp32, by the names that the layers have in this base."""
    local = local_names([name.removeprefix(PREFIX) for name in tensors if name.startswith(PREFIX)], base.model)
    return {
        PREFIX + local[name.removeprefix(PREFIX)] if name.startswith(PREFIX) else name: tensor.float()
        if tensor.is_floating_point()
        else tensor
        for name, tensor in tensors.items()
    }


def _split_head(files: PeftFiles) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The classifier of a decoder, `score`, which sees the last token as our head does; others are refused."""
    head, body = {}, {}
    for name, tensor in files.tensors.items():
        if name.removeprefix(PREFIX) == "score.weight":
            head = {"head.weight": tensor.float(), "head.bias": torch.zeros(len(tensor))}
        else:
            body[name] = tensor
    for saved in files.config.get("modules_to_save") or ():
        if saved != "score" and any(f".{saved}." in f".{name}" for name in body):
            raise NotSupportedError(
                f"{files.folder}: modules_to_save has '{saved}', a trained copy of a module of the base, which no adapter "
                "here holds" + ("; its input is not the pooled features of our head" if saved == "classifier" else "")
            )
    return head, body
