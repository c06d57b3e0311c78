"""Arrays in an .npz file, all of its rows or those of one split."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from adapterhub_lite.data import spill
from adapterhub_lite.data.table import place
from adapterhub_lite.errors import DataError

# What numpy and zipfile raise for files that are damaged, encrypted, or compressed in an unknown way.
UNREADABLE = (
    OSError, ValueError, EOFError, AttributeError, TypeError, RuntimeError, SyntaxError, MemoryError, OverflowError,
    struct.error,
)  # fmt: skip
SPLITS = {"train": 0, "val": 1, "test": 2}
_PART = re.compile("(train|val|test)_(.+)|(.+)_(train|val|test)")
_SHARED = ("classes", "channels")
"""Arrays that every split of a file has in common."""
Array = np.ndarray[Any, Any]


def load_arrays(path: Path, name: str, split: str = "") -> dict[str, Array]:
    """The arrays of an .npz file by name; where each split has its own, as MedMNIST's `train_images`, those of one alone.

    Those lose the split in their names, and get an array `split` as other files have it.

    Args:
        path: The file.
        name: What it is called in messages.
        split: The split, "" where none is named.

    Raises:
        DataError: an array that is not plain, a file that is not whole, or one of splits of which none is named.
    """
    try:
        # Opened here, since numpy leaves a file that is no archive open.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            parts = {key: _PART.fullmatch(key) for key in file.files if key not in _SHARED}
            if not parts or not all(parts.values()):
                return {key: _array(file, key) for key in file.files}
            of_split = {key: (part[1] or part[4], part[2] or part[3]) for key, part in parts.items() if part}
            known = dict.fromkeys(owner for owner, _ in of_split.values())
            if split not in known:
                lacks = f"no split is called {split!r}" if split else "each split has arrays of its own"
                shown = ", ".join(f"#{one}" for one in known)
                raise DataError(f"{name}: {lacks}; give one of {shown}, as in '{name}#{next(iter(known))}'")
            arrays = {plain: _array(file, key) for key, (owner, plain) in of_split.items() if owner == split}
            arrays["split"] = np.full(len(next(iter(arrays.values()))), SPLITS[split])
            return arrays | {key: _array(file, key) for key in file.files if key in _SHARED}
    except (*UNREADABLE, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{name}: not a readable .npz of plain arrays ({reason}); write it with numpy.savez") from error


def _array(file: Any, key: str) -> Array:
    """An array of an open .npz file; one that is larger than memory should hold is unpacked to a file and mapped."""
    member = key if key in file.zip.namelist() else f"{key}.npy"
    if file.zip.getinfo(member).file_size <= spill.ROOM:
        values: Array = file[key]
        return values
    with file.zip.open(member) as content:
        header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        version = npy.read_magic(content)
        if version not in header:
            raise ValueError(f"array {key!r} is in version {version[0]}.{version[1]} of the format")
        shape, fortran, dtype = header[version](content)
        if dtype.hasobject:
            raise ValueError(f"array {key!r} holds objects")
        store = spill.Spill()
        while part := content.read(1 << 24):
            store.write(part)
    return np.frombuffer(store.mapped(), dtype).reshape(shape, order="F" if fortran else "C")


def rows_of_split(split: str, codes: Array | None, reference: str, count: int) -> list[int]:
    """The rows of a split by its code, 0, 1 or 2, in the array `codes`."""
    if split not in SPLITS:
        raise DataError(f"{reference}: no split is called {split!r}; use #train, #val or #test")
    if codes is None:
        raise DataError(f"{reference}: the file has no array 'split'; leave out #{split} to use all rows")
    if codes.shape != (count,) or codes.dtype.kind not in "iu":
        raise DataError(
            f"{reference}: array 'split' must hold one integer (0, 1, 2) a row, not {codes.dtype} {codes.shape}"
        )
    unknown = np.flatnonzero(~np.isin(codes, list(SPLITS.values())))
    if len(unknown):
        where = place(reference, int(unknown[0]), None, "split")
        raise DataError(f"{where}: is {codes[unknown[0]]}; use 0 for train, 1 for val, 2 for test")
    rows: list[int] = np.flatnonzero(codes == SPLITS[split]).tolist()
    if not rows:
        raise DataError(f"{reference}: no row has {SPLITS[split]} in the array 'split'; choose another split")
    return rows
