"""What a run took of the machine, as far as that tells."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from adapterhub_lite.base.loading import Base
from adapterhub_lite.training.run.identity import energy_used
from adapterhub_lite.training.run.layout import EVENTS, RUN


def machine(base: Base, training: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """The machine, the time of training, the most memory that this process held until now in bytes, and energy in joules.

    Time with loading and scoring, and energy, are known of a run with a folder that was not interrupted. The energy is that of
    all that the processors did.
    """
    facts: dict[str, Any] = {
        "machine": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(base.device),
        "seconds": training.get("seconds"),
        "peak_memory": _most_held(),
        "peak_accelerator_memory": None,
        **_since_start(folder),
    }
    if base.device.type == "cuda":
        facts["accelerator"] = torch.cuda.get_device_name(base.device)
        facts["peak_accelerator_memory"] = torch.cuda.max_memory_allocated(base.device)
    return facts


def _since_start(folder: Path | None) -> dict[str, float]:
    """Seconds and joules since a run that was not interrupted began."""
    try:
        lines = (folder / EVENTS).read_text(encoding="utf-8").splitlines() if folder is not None else []
        started = [line.split()[0] for line in lines if line.endswith((" started", " resumed"))]
        if folder is None or len(started) != 1:
            return {}
        took = {"whole_seconds": (datetime.now(UTC) - datetime.fromisoformat(started[0])).total_seconds()}
        before, after = json.loads((folder / RUN).read_text(encoding="utf-8")).get("energy"), energy_used()
    except (OSError, ValueError):
        return {}
    # The counter begins again at nothing now and then.
    known = isinstance(before, int) and after is not None and after > before
    return {**took, "energy": (after - before) / 1e6} if known else took


def _most_held() -> int | None:
    """The most memory that the process has held, in bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most * 1024)
