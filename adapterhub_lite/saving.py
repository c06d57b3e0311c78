"""From an adapter in memory to its directory: tensors, PEFT's configuration and the manifest."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor

from adapterhub_lite.api import Exporter, PeftCompatible
from adapterhub_lite.base.precision import dtype_name
from adapterhub_lite.data import Dataset
from adapterhub_lite.errors import TrainingError
from adapterhub_lite.storage import (
    KEEP,
    BaseRecord,
    Manifest,
    ProbeRecord,
    StrategyRecord,
    write_adapter,
)
from adapterhub_lite.tasks.attachment import Attachment
from adapterhub_lite.tasks.rows import encode
from adapterhub_lite.training.observers import Observers

if TYPE_CHECKING:
    from adapterhub_lite.adapter import Adapter

RECORDED = ("adapterhub-lite", "torch", "transformers", "peft", "bitsandbytes", "safetensors")
PROBE_VALUES = 16


def save_adapter(adapter: Adapter, path: Path, keep: int = KEEP) -> Manifest:
    """See `Adapter.save`."""
    attachment = adapter.attachment
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
        task=adapter.task_record(),
        data=adapter.data,
        training=adapter.training,
        metrics={name: value if math.isfinite(value) else None for name, value in adapter.metrics.items()},
        versions={name: metadata.version(name) for name in RECORDED},
        probe=_probe(adapter),
        forced=adapter.forced,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    extra = {"run.yaml": adapter.run_file.encode()} if adapter.run_file else {}
    payload = safetensors.torch.save(
        {name: tensor.cpu().contiguous() for name, tensor in exported.items()}, metadata={"format": "pt"}
    )
    written = write_adapter(
        path,
        tensors=payload,
        config=config_file(attachment, config, exported),
        manifest=manifest,
        extra=extra,
        keep=keep,
    )
    Observers(adapter.plugins).notify(
        "adapterhub_adapter_saved", {"path": path, "manifest": written.model_dump(mode="json")}
    )
    return written


def accompany_saving(adapter: Adapter) -> None:
    """Run what `save_adapter` runs on the base: in the processes that do not write, where the base is sharded."""
    if adapter.base.shards is not None:
        adapter.use()
        _probe(adapter)


def config_file(attachment: Attachment, config: Any, tensors: Collection[str]) -> dict[str, Any]:
    """PEFT's configuration where the strategy has a PEFT form, else the strategy's own; `tensors` are the saved names."""
    if isinstance(attachment.strategy, PeftCompatible):
        return {
            **attachment.strategy.peft_config(attachment.view, config),
            "base_model_name_or_path": attachment.base.reference,
            "revision": attachment.base.revision,
            "task_type": "CAUSAL_LM" if attachment.task.generates else "FEATURE_EXTRACTION",
        }
    return {
        "strategy": attachment.provided.spec.name,
        **config.model_dump(mode="json"),
        "base_model_name_or_path": attachment.base.reference,
        "tensors": sorted(tensors),
    }


def _probe(adapter: Adapter) -> ProbeRecord | None:
    """A few inputs with the outputs seen now, by which a loaded adapter can be checked against this one."""
    task = adapter.attachment.task
    kept = [task.probe(item, number) for number, item in enumerate(adapter.probe_inputs)]
    inputs = [value for value in kept if value is not None]
    if not inputs:
        return None
    return ProbeRecord(inputs=inputs, outputs=probe_outputs(adapter, inputs))


def probe_outputs(adapter: Adapter, inputs: list[Any]) -> list[list[float]]:
    """The first logits for each probe input: of the classes, or at the first supervised token."""
    attachment = adapter.attachment
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
