"""The report that a run left in its folder, read again: for a later page, and for the figures of a model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapterhub_lite.errors import AdapterHubError
from adapterhub_lite.storage import Manifest
from adapterhub_lite.storage.plain import read_plain
from adapterhub_lite.storage.strict_json import parse_json
from adapterhub_lite.training.run.layout import REPORT, run_folder_of

FORMAT = 1
"""Of report.json; an older program takes no newer one."""
HTML, JSON = REPORT
MOST_BYTES = 64 << 20


def left_by_run(path: Path, manifest: Manifest) -> dict[str, Any] | None:
    """The facts that the run of an adapter left beside it; None where there are none, or those of another adapter."""
    file = run_folder_of(path) / JSON
    try:
        facts = parse_json(read_plain(file, MOST_BYTES), str(file))
    except (AdapterHubError, OSError):  # a report that is damaged is none, and the adapter is what counts
        return None
    return facts if isinstance(facts, dict) and facts.get("report") == FORMAT and is_of(facts, manifest) else None


def is_of(facts: Mapping[str, Any], manifest: Manifest) -> bool:
    """Whether facts are of the adapter with this manifest: the same base, data, strategy and scores, to the last digit."""
    base, data, adapter = (facts.get(name) for name in ("base", "data", "adapter"))
    if not (isinstance(base, dict) and isinstance(data, dict) and isinstance(adapter, dict)):
        return False
    return bool(
        base.get("weights") == manifest.base.fingerprint.weights
        and data.get("sha256") == (manifest.data.sha256 if manifest.data is not None else None)
        and adapter.get("strategy") == manifest.strategy.name
        and facts.get("metrics") == manifest.metrics
    )
