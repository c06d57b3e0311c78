"""What a run took of the machine, as far as that tells."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

import torch

from adapterhub_lite.base.loading import Base


def machine(base: Base, training: dict[str, Any]) -> dict[str, Any]:
    """The machine, the time of training, and the most memory that this process held until now, in bytes."""
    facts: dict[str, Any] = {
        "machine": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(base.device),
        "seconds": training.get("seconds"),
        "peak_memory": _most_held(),
        "peak_accelerator_memory": None,
    }
    if base.device.type == "cuda":
        facts["accelerator"] = torch.cuda.get_device_name(base.device)
        facts["peak_accelerator_memory"] = torch.cuda.max_memory_allocated(base.device)
    return facts


def _most_held() -> int | None:
    """The most memory that the process has held, in bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most * 1024)
