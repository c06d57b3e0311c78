"""Verification that needs the model: the right base, every slot filled, and the outputs seen when it was saved."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.adapter.probe import probe_outputs
from adapterhub_lite.base.fingerprint import weights_hash
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.precision import dtype_name
from adapterhub_lite.base.prepared import hash_anew
from adapterhub_lite.base.references import parse_scratch
from adapterhub_lite.errors import AdapterCorruptError, BaseMismatchError, BaseNotFoundError
from adapterhub_lite.storage import BaseRecord, ProbeRecord, StoredAdapter, read_adapter
from adapterhub_lite.storage.public import local_reference
from adapterhub_lite.storage.verify import State, Verification, verify_files

TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}
"""Largest difference of an output, as a share of the largest output, by the dtype the base computes in.

On an accelerator four times as much, because sums are taken in another order there and fp32 products may be rounded.
"""


@dataclass(frozen=True)
class Replay:
    """How the outputs for the saved inputs compare with those seen when the adapter was saved."""

    inputs: int
    difference: float
    """Largest difference of an output, as a share of the largest output (at least 1)."""
    tolerance: float


def replay(adapter: Adapter, probe: ProbeRecord) -> Replay:
    """Run the saved inputs through an adapter.

    Raises:
        AdapterCorruptError: the probe itself does not fit the adapter, as its rows or numbers of outputs show.
    """
    outputs = probe_outputs(adapter.attachment, probe.inputs)
    if [len(row) for row in outputs] != [len(row) for row in probe.outputs]:
        raise AdapterCorruptError(
            f"the saved probe has outputs of {[len(row) for row in probe.outputs]} numbers where this adapter gives "
            f"{[len(row) for row in outputs]}; save the adapter again"
        )
    now, then = (
        torch.tensor([x for row in rows for x in row], dtype=torch.float64) for rows in (outputs, probe.outputs)
    )
    scale = max(1.0, float(then.abs().max())) if len(then) else 1.0
    difference = float((now - then).abs().max()) / scale if len(then) else 0.0
    return Replay(len(probe.inputs), difference, _tolerance(adapter))


class Loader(Protocol):
    """An engine, of which only this is needed here."""

    def load_adapter(self, path: str | Path, *, base: Base | str | None, device: str) -> Adapter:
        """Load a saved adapter onto its base."""
        ...


def verify_adapter(
    engine: Loader,
    path: Path,
    *,
    base: Base | str | None = None,
    device: str = "auto",
    files: Verification | None = None,
) -> Verification:
    """Verify an adapter's files, load it onto its base, and replay its probe.

    `base` is a loaded base or a reference instead of the recorded one, `device` where to load it, and `files` the report of
    `verify_files`, where that has been done and has passed.
    """
    stored: StoredAdapter | None
    stored, report = (read_adapter(path), files) if files is not None else verify_files(path)
    loaded: list[Adapter] = []

    def fits() -> tuple[State, str]:
        if stored is not None:
            _hash_base_anew(base, stored.manifest.base)
        adapter = engine.load_adapter(path, base=base, device=device)
        loaded.append(adapter)
        detail = (
            f"'{adapter.base.reference}' has the saved fingerprint; all {len(adapter.attachment.tensors)} slots filled"
        )
        if stored is not None and stored.manifest.base.quantization != adapter.base.quantization:
            return "warning", f"{detail}, but quantization is another"
        return "passed", detail

    def same_outputs() -> tuple[State, str]:
        assert stored is not None
        probe = stored.manifest.probe
        if probe is None or not probe.inputs:
            return "warning", "no inputs were saved with the adapter, so there is nothing to replay"
        result = replay(loaded[0], probe)
        detail = f"{result.inputs} inputs, largest difference {result.difference:.1e} of {result.tolerance:.0e} allowed"
        if result.difference <= result.tolerance:
            return "passed", detail
        if stored.manifest.base.quantization != loaded[0].base.quantization:
            return "warning", f"{detail}; the base is quantized in another way than in training"
        raise AdapterCorruptError(
            f"{path}: the adapter does not give the outputs seen when it was saved: {detail}; other versions of "
            f"libraries may be the reason (saved with {_versions(stored.manifest.versions)})"
        )

    report.run("base", fits)
    report.run("probe", same_outputs)
    if loaded:
        loaded[0].detach()
    return report


def _hash_base_anew(base: Base | str | None, record: BaseRecord) -> None:
    """Read the files of the base, so that what loads it believes nothing that was remembered of them.

    Raises:
        BaseMismatchError: the files of a loaded base were changed after it was loaded.
    """
    if isinstance(base, Base):
        if base.source is not None and weights_hash(base.source, anew=True) != base.fingerprint.weights:
            raise BaseMismatchError(f"the files of '{base.reference}' changed after it was loaded; load it again")
        return
    with suppress(BaseNotFoundError):  # no files: a plug-in loads it, or loading it says what is wrong
        reference = base or local_reference(record)
        scratch = parse_scratch(reference)
        hash_anew(scratch[1] if scratch is not None else reference, record.quantization, record.dtype)


def _tolerance(adapter: Adapter) -> float:
    tolerance = TOLERANCES.get(dtype_name(adapter.base.dtype), TOLERANCES["float16"])
    return tolerance if adapter.base.device.type == "cpu" else 4 * tolerance


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers", "peft") if name in versions)
