"""The facts of a saved adapter: those that its run left, or what its manifest and log tell of an older one. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.reporting.curves import curves, logged
from adapterhub_lite.storage import Manifest
from adapterhub_lite.storage.bundle import manifest_of
from adapterhub_lite.tasks.catalog import Catalog
from adapterhub_lite.training.run.layout import run_folder_of
from adapterhub_lite.training.run.left import FORMAT, left_by_run


def saved_facts(path: Path) -> dict[str, Any]:
    """The facts of an adapter's report, from the folder of its run where that is of this adapter, else from its manifest.

    Raises:
        AdapterNotFoundError, AdapterCorruptError: no such adapter, or not as it was saved.
    """
    manifest = manifest_of(path)
    left = left_by_run(path, manifest)
    return {**left, "name": path.name} if left is not None else _of_manifest(path, manifest)


def _of_manifest(path: Path, manifest: Manifest) -> dict[str, Any]:
    """What a manifest tells, in the form of the facts that a run leaves; what it does not tell is none."""
    base, task, data, made_by = manifest.base, manifest.task, manifest.data, manifest.strategy
    known = next((one.spec for one in Catalog(Plugins()).offered if one.recorded == task.name), None)
    metrics = {name: value for name, value in manifest.metrics.items() if value is not None}
    kind = "class" if task.labels else "value" if "rmse" in metrics else "text"
    if task.preprocessing.get("form") == "several":
        kind = "labels"
    elif "token" in task.name:
        kind = "tokens"
    by = {"class": ("accuracy",), "labels": ("macro_f1",), "tokens": ("f1", "macro_f1"), "value": ("rmse",)}.get(
        kind, ()
    )
    metric = next((name for name in by if name in metrics), "loss")
    return {
        "report": FORMAT,
        "made": manifest.created,
        "name": path.name,
        "adapter": {
            "strategy": made_by.name, "dist": made_by.dist, "version": made_by.version, "settings": dict(made_by.config),
            "task": task.name, "kind": kind, "modality": known.modality if known is not None else "",
            "labels": list(task.labels), "decision": task.decision.in_words(), "forced": list(manifest.forced),
        },
        "base": {
            "reference": base.reference, "revision": base.revision, "parameters": base.parameters,
            "quantization": base.quantization, "dtype": base.dtype, "weights": base.fingerprint.weights,
            "architecture": base.fingerprint.architecture,
        },
        "data": {
            "source": data.source if data else None, "sha256": data.sha256 if data else None,
            "rows": data.rows if data else None, "held_out": None, "grouped": False, "columns": dict(task.columns),
        },
        "metric": metric, "higher_is_better": metric not in ("rmse", "loss"), "metrics": metrics, "scores": None,
        "baselines": [], "classes": [], "slices": [], "confusion": None, "rows": None, "through_time": [],
        "curves": curves(logged(run_folder_of(path))), "trained": {}, "training": dict(manifest.training),
        "warnings": [
            "this page is made from what is saved with the adapter alone, without the rows it was scored on; --data FILE scores "
            "it on labelled rows and tells the rest",
            *[str(note) for note in _list(manifest.training.get("notes"))],
        ],
        "machine": {"seconds": manifest.training.get("seconds")},
        "run": {"command": None, "run_file": None, "versions": dict(manifest.versions), "git_commit": None},
        "left_out": ["all that needs the rows: no report of its run was found beside it"],
    }  # fmt: skip


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
