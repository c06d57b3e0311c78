"""From an adapter in memory to its directory: tensors, PEFT's configuration and the manifest."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.precision import dtype_name
from adapterhub_lite.base.strategy import Exporter, PeftCompatible
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import TrainingError
from adapterhub_lite.storage import (
    KEEP,
    BaseRecord,
    DataRecord,
    Manifest,
    ProbeRecord,
    StrategyRecord,
    TaskRecord,
    write_adapter,
)
from adapterhub_lite.tasks.task import Task, encode
from adapterhub_lite.training.attachment import Attachment

RECORDED = ("adapterhub-lite", "torch", "transformers", "peft", "bitsandbytes", "safetensors")
PROBE_VALUES = 16


@dataclass(frozen=True)
class AdapterRecord:
    """What is saved of an adapter beside its tensors and what follows from where they are attached."""

    task: TaskRecord
    data: DataRecord | None
    training: dict[str, Any]
    metrics: dict[str, float]
    forced: list[str]
    """Differences between this base and the one of training that were overridden."""
    probe_inputs: Sequence[Any]
    run_file: str | None


def save_adapter(attachment: Attachment, record: AdapterRecord, path: Path, keep: int = KEEP) -> Manifest:
    """See `Adapter.save`."""
    base, view = attachment.base, attachment.view
    base.activate(view)
    config, tensors = attachment.config, dict(attachment.parameters)
    exported: dict[str, Tensor] = {name: parameter.detach() for name, parameter in tensors.items()}
    if isinstance(attachment.strategy, Exporter):
        config, given = attachment.strategy.export(view, config, exported)
        exported = dict(given)
    for name in view.unchanged(tensors):
        del exported[name]
    exported |= {name: p.detach() for name, p in attachment.tensors.items() if name not in attachment.parameters}
    broken = [name for name, tensor in exported.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise TrainingError(f"tensor '{broken[0]}' is not finite, so the adapter is not saved")
    provided = attachment.provided
    manifest = Manifest(
        strategy=StrategyRecord(
            name=provided.spec.name, dist=provided.dist, version=provided.version, config=config.model_dump(mode="json")
        ),
        base=BaseRecord(
            reference=base.reference,
            revision=base.revision,
            fingerprint=base.fingerprint,
            quantization=base.quantization,
            dtype=dtype_name(base.dtype),
            parameters=base.parameters,
        ),
        task=record.task,
        data=record.data,
        training=record.training,
        metrics={name: value if math.isfinite(value) else None for name, value in record.metrics.items()},
        versions={name: metadata.version(name) for name in RECORDED},
        probe=_probe(attachment, record.probe_inputs),
        forced=record.forced,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    extra = {"run.yaml": record.run_file.encode()} if record.run_file else {}
    payload = safetensors.torch.save(
        {name: tensor.cpu().contiguous() for name, tensor in exported.items()}, metadata={"format": "pt"}
    )
    return write_adapter(
        path,
        tensors=payload,
        config=config_file(attachment, config, exported),
        manifest=manifest,
        extra=extra,
        keep=keep,
    )


def accompany_saving(attachment: Attachment, probe_inputs: Sequence[Any]) -> None:
    """Run what `save_adapter` runs on the base: in the processes that do not write, where the base is sharded."""
    if attachment.base.shards is not None:
        attachment.base.activate(attachment.view)
        _probe(attachment, probe_inputs)


def config_file(attachment: Attachment, config: Any, tensors: Collection[str]) -> dict[str, Any]:
    """PEFT's configuration where the strategy has a PEFT form, else the strategy's own; `tensors` are the saved names."""
    if isinstance(attachment.strategy, PeftCompatible):
        return {
            **attachment.strategy.peft_config(attachment.view, config),
            **base_and_task(attachment.base, attachment.task),
        }
    return {
        "strategy": attachment.provided.spec.name,
        **config.model_dump(mode="json"),
        "base_model_name_or_path": attachment.base.reference,
        "tensors": sorted(tensors),
    }


def base_and_task(base: Base, task: Task) -> dict[str, Any]:
    """What PEFT's configuration says of the base and the task, whatever the strategy."""
    return {
        "base_model_name_or_path": base.reference,
        "revision": base.revision,
        "task_type": "CAUSAL_LM" if task.generates else "FEATURE_EXTRACTION",
    }


def _probe(attachment: Attachment, probe_inputs: Sequence[Any]) -> ProbeRecord | None:
    """A few inputs with the outputs seen now, by which a loaded adapter can be checked against this one."""
    kept = [attachment.task.probe(item, number) for number, item in enumerate(probe_inputs)]
    inputs = [value for value in kept if value is not None]
    if not inputs:
        return None
    return ProbeRecord(inputs=inputs, outputs=probe_outputs(attachment, inputs))


def probe_outputs(attachment: Attachment, inputs: list[Any]) -> list[list[float]]:
    """The first logits for each probe input: of the classes, or at the first supervised token."""
    items = tuple(attachment.task.item_of_probe(value) for value in inputs)
    form = attachment.task.preprocessing.form
    dataset = Dataset(attachment.task.name, items, None, attachment.task.labels, {}, "<probe>", "", None, form=form)
    outputs = []
    with torch.no_grad():
        for example in encode(attachment.task, dataset, attachment.base).examples:
            batch = attachment.task.collate([example], attachment.base)
            logits, _ = attachment.logits({key: value.to(attachment.base.device) for key, value in batch.items()})
            outputs.append([float(value) for value in logits[0, :PROBE_VALUES]])
    return outputs
