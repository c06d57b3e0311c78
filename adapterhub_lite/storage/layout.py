"""What the files of an adapter are called, and what may lie in its folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

MANIFEST = "adapterhub.json"
CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
SIGNATURE = "model.sig"
"""Not in the manifest, because it is made after it; a save that replaces what it signs deletes it."""
MAX_SIGNATURE_BYTES = 1 << 20

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill"})
"""Files that loaders unpickle, which runs code; an adapter never has one."""

# One flat folder of plain names: no separators, no '..', no hidden files, nothing a shell or Windows reads differently.
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,126}[A-Za-z0-9_]|[A-Za-z0-9_]")

_DEVICES = frozenset({"CON", "PRN", "AUX", "NUL"} | {f"{port}{n}" for port in ("COM", "LPT") for n in range(10)})


def is_pickle(name: str) -> bool:
    """Tell whether a file of this name is one that loaders unpickle."""
    return Path(name).suffix.lower() in PICKLE_SUFFIXES


def is_file_name(name: str) -> bool:
    """Tell whether `name` may be the name of an adapter's file: plain, flat, no device of Windows and no pickle."""
    device = name.partition(".")[0].upper() in _DEVICES
    return _FILE_NAME.fullmatch(name) is not None and not device and not is_pickle(name)


def case_clash(names: Iterable[str]) -> str | None:
    """Return a name that is the same file as another one where case does not count, if there is one."""
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            return name
        seen.add(name.casefold())
    return None
