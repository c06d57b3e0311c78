"""The facts of a report as JSON: everything that the page shows, and nothing that it does not come from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.names import one_line
from adapterhub_lite.reporting.baselines import baselines
from adapterhub_lite.reporting.chats import answers, loss_by_position
from adapterhub_lite.reporting.confusion import confusion
from adapterhub_lite.reporting.curves import curves
from adapterhub_lite.reporting.examples import most_wrong
from adapterhub_lite.reporting.known import Known, right_of
from adapterhub_lite.reporting.machine import machine
from adapterhub_lite.reporting.saliency import saliency
from adapterhub_lite.reporting.slices import classes, slices
from adapterhub_lite.reporting.through_time import through_time
from adapterhub_lite.reporting.trained import trained
from adapterhub_lite.reporting.warned import warnings_of
from adapterhub_lite.scoring.by_value import ValueDetail
from adapterhub_lite.storage.strict_json import parse_json
from adapterhub_lite.tasks.task import rows_of
from adapterhub_lite.training.run.identity import environment
from adapterhub_lite.training.run.layout import RUN
from adapterhub_lite.training.run.left import FORMAT

Made = TypeVar("Made")

MOST_DRAWN = 400
"""Points of predicted against wanted numbers."""
MOST_ROWS = 20_000
"""Held-out rows up to which it is kept which are right, for comparisons."""


def gather(known: Known, *, name: str, command: str | None = None) -> dict[str, Any]:
    """Everything about an adapter that a report says, as JSON.

    Args:
        known: The adapter, and what is known of its run.
        name: What it is called, such as its folder.
        command: That made it, if one did.
    """
    adapter, task, base = known.adapter, known.task, known.adapter.base
    scored, held_out = known.scored, known.held_out
    right = part(known, "which rows are right", lambda: right_of(known), None)
    # First, as what runs models has to keep to a time.
    weights = part(known, "what was trained", lambda: trained(known), {})
    pictures: list[dict[str, Any]] = []
    if known.examples and known.may_run:
        pictures = part(known, "what answers hang on", lambda: saliency(known), pictures)
    provided = adapter.attachment.provided
    learnt_from = adapter.data
    facts: dict[str, Any] = {
        "report": FORMAT,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "name": name,
        "adapter": {
            "strategy": provided.spec.name, "dist": provided.dist, "version": provided.version,
            "settings": adapter.attachment.config.model_dump(mode="json"),
            "task": task.name, "kind": known.kind, "modality": task.modality, "labels": list(task.labels),
            "decision": task.decision.in_words(), "forced": list(adapter.forced),
        },
        "base": {
            "reference": base.reference, "revision": base.revision, "parameters": base.parameters,
            "quantization": base.quantization, "dtype": str(base.dtype).removeprefix("torch."),
            "weights": base.fingerprint.weights, "architecture": base.fingerprint.architecture,
        },
        "data": {
            "source": learnt_from.source if learnt_from else None,
            "sha256": learnt_from.sha256 if learnt_from else None,
            "rows": learnt_from.rows if learnt_from else None,
            "held_out": held_out.source if held_out is not None else None,
            "held_out_sha256": held_out.sha256 if held_out is not None else None,
            "held_out_rows_sha256": _rows_sha256(held_out),
            "grouped": held_out is not None and held_out.groups is not None,
            "columns": dict(adapter.columns),
        },
        "metric": task.metric,
        "higher_is_better": task.higher_is_better,
        "metrics": dict(adapter.metrics),
        "scores": scored.in_full() if scored is not None else None,
        "baselines": part(known, "what it has to beat", lambda: baselines(known), []),
        "classes": part(known, "the scores by class", lambda: classes(known), []),
        "slices": part(known, "the slices", lambda: slices(known, right), []),
        "confusion": part(known, "the confusions", lambda: confusion(known), None),
        "rows": None,
        "through_time": part(known, "the series", lambda: through_time(known), []) if known.examples else [],
        "curves": part(known, "the curves", lambda: curves(known.log), curves([])),
        "trained": weights,
        "training": {name: value for name, value in adapter.training.items() if name != "comparison"},
    }  # fmt: skip
    detail = scored.detail if scored is not None else None
    if known.examples and isinstance(detail, ValueDetail):
        facts["points"] = detail.points[:: -(-len(detail.points) // MOST_DRAWN)]
    if right is not None and held_out is not None and len(right) <= MOST_ROWS:
        facts["rows"] = [float(f"{one:.6g}") for one in right]
    if known.kind == "text" and held_out is not None and len(held_out) and known.may_run:
        facts["by_position"] = part(known, "the loss by place", lambda: loss_by_position(known, held_out), None)
        facts["answers"] = part(known, "answers", lambda: answers(known, held_out), []) if known.examples else []
    if known.examples:
        facts["examples"] = part(known, "the most wrong rows", lambda: most_wrong(known, right), [])
        facts["saliency"] = pictures
    facts["warnings"] = part(known, "the warnings", lambda: warnings_of(known, facts), [])
    took = {"seconds": adapter.training.get("seconds")}
    facts["machine"] = machine(base, adapter.training, adapter.run_folder) if known.of_run else took
    facts["run"] = _run(known, command)
    facts["left_out"] = list(dict.fromkeys(known.left_out))
    return cleaned(facts)


def part(known: Known, what: str, make: Callable[[], Made], without: Any) -> Made:
    """A part of the report; where it fails, as for lack of memory, `without`, and a line that says so."""
    try:
        return make()
    except Exception as error:  # the other parts are worth having, whatever is wrong with this one
        known.left_out.append(f"{what}: {one_line(error)}")
        instead: Made = without
        return instead


def cleaned(value: Any) -> Any:
    """A value as strict JSON: numbers that are not finite are none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): cleaned(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(one) for one in value]
    return value if isinstance(value, str | int | bool | None) else str(value)


def _rows_sha256(data: Dataset | None) -> str | None:
    """The hash of which rows of their source these are, in their order; None where that is not known."""
    if data is None or data.table is None:
        return None
    return hashlib.sha256(np.asarray(rows_of(data), dtype="<i8").tobytes()).hexdigest()


def _run(known: Known, command: str | None) -> dict[str, Any]:
    """How it was made: the command, the run file, versions and commit."""
    folder = known.adapter.run_folder
    recorded: Any = None
    if folder is not None and (folder / RUN).is_file():
        recorded = parse_json((folder / RUN).read_bytes(), str(folder / RUN))
    told = recorded if isinstance(recorded, dict) else environment() if known.of_run else {}
    identity = told.get("identity", {}) if isinstance(told.get("identity"), dict) else {}
    return {
        "command": command,
        "run_file": known.adapter.run_file,
        "versions": {**told.get("versions", {}), **({"python": told["python"]} if "python" in told else {})},
        "git_commit": told.get("git_commit"),
        "examples_sha256": (identity.get("data") or {}).get("sha256"),
    }
