"""Keeping the memory of large tensors between steps, on a CPU under Linux.

glibc asks the system for each block above 32 MiB and gives it back when it is freed. Activations of images are larger, so the
system has to clear gigabytes of pages at every step: 40 % of the time of encoding with MobileNetV2, 25 % of training it
(benchmarks/RESULTS.md). Within `kept_heap` such blocks come from the heap and stay there; the peak of memory is 25 % higher.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from adapterhub_lite.base.loading import Base

# From glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 << 20}
# What glibc arrives at by itself after large blocks; it no longer adapts once any of these is set.
_USUAL = {_MMAP_MAX: 65536, _TRIM_THRESHOLD: 64 << 20, _TOP_PAD: 128 << 10, _MMAP_THRESHOLD: 32 << 20}
_VARIABLES = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_"}

_lock = threading.Lock()
_inside = 0


@contextmanager
def kept_heap(base: Base) -> Iterator[None]:
    """Keep freed memory for the next batch where that pays: images on a CPU, under glibc, unless the user has set it up.

    Once the last such block ends, what is free goes back to the system.
    """
    global _inside
    pays = base.map.modality == "image" and base.device.type == "cpu" and _glibc() is not None
    if not pays:
        yield
        return
    with _lock:
        _inside += 1
        if _inside == 1:
            _set(_KEPT)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _set(_USUAL)
                trim()


def trim() -> None:
    """Give free memory of the heap back to the system, where there is a way."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _set(options: dict[int, int]) -> None:
    for option, value in options.items():
        _glibc().mallopt(option, value)


@cache
def _glibc() -> Any:
    """The C library, if it is one with these switches and nobody else has set them."""
    chosen = _VARIABLES & set(os.environ) or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "")
    if not sys.platform.startswith("linux") or chosen:
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt") else None
