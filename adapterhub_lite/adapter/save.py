"""From an adapter in memory to its directory: tensors, PEFT's configuration and the manifest."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from adapterhub_lite.adapter.peft_names import names_class, to_file, with_head
from adapterhub_lite.adapter.probe import probe_record
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.precision import dtype_name
from adapterhub_lite.base.strategy import Exporter, PeftCompatible
from adapterhub_lite.errors import TrainingError
from adapterhub_lite.storage import (
    KEEP,
    BaseRecord,
    DataRecord,
    Manifest,
    StrategyRecord,
    TaskRecord,
    write_adapter,
)
from adapterhub_lite.storage.public import public_config, public_manifest, public_run, remember_base, remember_run
from adapterhub_lite.training.attachment import Attachment
from adapterhub_lite.training.prepare import slots_anew

RECORDED = ("adapterhub-lite", "torch", "transformers", "peft", "bitsandbytes", "safetensors")


def save_adapter(
    attachment: Attachment,
    path: Path,
    *,
    task: TaskRecord,
    data: DataRecord | None,
    training: dict[str, Any],
    metrics: dict[str, float],
    forced: list[str],
    probe_inputs: Sequence[Any],
    run_file: str | None,
    keep: int = KEEP,
) -> Manifest:
    """Write an attachment to a directory, with what is recorded of it; the arguments are those of `Adapter`.

    Raises:
        TrainingError: a tensor is not finite; nothing is written.
        StorageError: the directory cannot be written, or holds something else; it is as it was.
    """
    base, view = attachment.base, attachment.view
    base.activate(view)
    config = attachment.config
    exported: dict[str, Tensor] = {name: parameter.detach() for name, parameter in attachment.parameters.items()}
    if isinstance(attachment.strategy, Exporter):
        with attachment.calls.into("export"):
            config, tensors = attachment.strategy.export(view, config, exported)
        exported = dict(tensors)
    if attachment.traits.trains_base:  # whose files list the names they have
        for name in view.unchanged(dict(attachment.parameters)):
            del exported[name]
    exported |= {name: p.detach() for name, p in attachment.tensors.items() if name not in attachment.parameters}
    state = attachment.state()
    kept = {name: tensor.detach().clone() for name, tensor in state.tensors.items() if name in state.in_file}
    _require_slots(attachment, kept)
    exported |= kept
    values = {name: value for name, value in state.values.items() if name in state.in_file}
    broken = [name for name, tensor in exported.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise TrainingError(
            f"tensor '{broken[0]}' is not finite, so the adapter is not saved; train again with a lower --lr or --weight-decay"
        )
    provided = attachment.provided
    manifest = Manifest(
        strategy=StrategyRecord(
            name=provided.spec.name,
            dist=provided.dist,
            version=provided.version,
            config=config.model_dump(mode="json"),
            state=values,
        ),
        base=BaseRecord(
            reference=base.reference,
            revision=base.revision,
            fingerprint=base.fingerprint,
            quantization=base.quantization,
            dtype=dtype_name(base.dtype),
            parameters=base.parameters,
        ),
        task=task,
        data=data,
        training=training,
        metrics={name: value if math.isfinite(value) else None for name, value in metrics.items()},
        versions={name: metadata.version(name) for name in RECORDED},
        probe=probe_record(attachment, probe_inputs),
        forced=forced,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    described = config_file(attachment, config, exported)
    remember_base(public_manifest(manifest).base, base.reference)
    told = public_run(run_file) if run_file is not None else None
    known = names_class(described, attachment.task.preprocessing.facts)
    payload = safetensors.torch.save(
        {to_file(name, known): tensor.cpu().contiguous() for name, tensor in exported.items()},
        metadata={"format": "pt"},
    )
    saved = write_adapter(
        path,
        tensors=payload,
        config=public_config(described),
        manifest=public_manifest(manifest),
        extra={"run.yaml": told.encode()} if told else {},
        keep=keep,
    )
    if run_file is not None and told is not None:
        remember_run(told, run_file, saved)
    return saved


def _require_slots(attachment: Attachment, kept: Mapping[str, Tensor]) -> None:
    """Refuse tensors of a strategy's state that the file could not be loaded with again.

    Raises:
        PluginError: after `attach` the strategy has others, or of another dtype or shape.
    """
    if not kept or attachment.base.shards is not None:
        return
    anew = slots_anew(attachment)
    for name, tensor in kept.items():
        own = (tensor.dtype, tuple(tensor.shape))
        if anew.get(name) != own:
            raise attachment.calls.fault(
                f"holds '{name}' for the file, {own[0]} {own[1]}, where attach with its config makes {anew.get(name)}",
                "state",
            )


def config_file(attachment: Attachment, config: Any, tensors: Collection[str]) -> dict[str, Any]:
    """PEFT's configuration where the strategy has a PEFT form, else the strategy's own; `tensors` are the saved names."""
    if isinstance(attachment.strategy, PeftCompatible) and not attachment.view.token_rows:  # PEFT would drop those
        with attachment.calls.into("peft_config"):
            theirs = attachment.strategy.peft_config(attachment.view, config)
        return {**theirs, **of_base(attachment.base), **with_head(theirs, attachment.task)}
    return {
        "strategy": attachment.provided.spec.name,
        **config.model_dump(mode="json"),
        "base_model_name_or_path": attachment.base.reference,
        "tensors": sorted(tensors),
    }


def of_base(base: Base) -> dict[str, Any]:
    """What PEFT's configuration says of the base, whatever the strategy."""
    return {"base_model_name_or_path": base.reference, "revision": base.revision}
