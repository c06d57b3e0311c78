"""Recognising that memory ran out, and saying what to do about it."""

from __future__ import annotations

import re

import torch

from adapterhub_lite.base.heap import trim
from adapterhub_lite.names import human_size

# How allocators other than torch's own for accelerators put it.
_WORDS = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the accelerator or of the machine, ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def free(device: torch.device) -> None:
    """Give cached blocks back, so that the next try does not fail for fragments."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "cpu":
        trim()


def used(device: torch.device) -> str:
    """How much memory the program takes: the most so far of the accelerator's, else its part of the machine's now."""
    if device.type == "cuda":
        return human_size(torch.cuda.max_memory_allocated(device))
    import psutil

    return human_size(psutil.Process().memory_info().rss)


def need(error: BaseException, device: torch.device) -> str:
    """How much memory it would have taken, as far as can be told: ", needing about 9.3 GiB" or nothing."""
    asked = re.search(r"[Tt]ried to allocate ([\d.]+) ([KMG]iB)", str(error))
    if asked is None or device.type != "cuda":
        return ""
    size = float(asked[1]) * {"KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}[asked[2]]
    total = torch.cuda.get_device_properties(device).total_memory / 2**30
    return f", needing at least {(torch.cuda.max_memory_allocated(device) + size) / 2**30:.1f} GiB of {total:.1f} GiB"
