"""What the files of an adapter are called, and what may lie in its folder."""

from __future__ import annotations

import re
from pathlib import Path

MANIFEST = "adapterhub.json"
CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"})
"""Files that loaders unpickle, which runs code; an adapter never has one."""

# One flat folder of plain names: no separators, no '..', no hidden files, nothing a shell or Windows reads differently.
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,126}[A-Za-z0-9_]|[A-Za-z0-9_]")


def is_pickle(name: str) -> bool:
    """Tell whether a file of this name is one that loaders unpickle."""
    return Path(name).suffix.lower() in PICKLE_SUFFIXES


def is_file_name(name: str) -> bool:
    """Tell whether `name` may be the name of an adapter's file: plain, flat and no pickle."""
    return _FILE_NAME.fullmatch(name) is not None and not is_pickle(name)
