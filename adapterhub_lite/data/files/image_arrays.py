"""Images as arrays in an .npz file."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy

from adapterhub_lite.data import spill
from adapterhub_lite.data.files.read import existing, file_sha256
from adapterhub_lite.data.roles.columns import shortened, suggestion
from adapterhub_lite.data.table import Table, place
from adapterhub_lite.errors import DataError

# What numpy and zipfile raise for files that are damaged, encrypted, or compressed in an unknown way.
UNREADABLE = (OSError, ValueError, EOFError, AttributeError, TypeError, RuntimeError, SyntaxError, struct.error)
SPLITS = {"train": 0, "val": 1, "test": 2}
Array = np.ndarray[Any, Any]


def parse_reference(reference: str) -> tuple[str, str]:
    """The path and the split of "file.npz#train"; the split is "" where none is named."""
    path, _, split = reference.rpartition("#")
    return (path, split) if path.lower().endswith(".npz") else (reference, "")


def read_arrays(
    reference: str, given: Mapping[str, str], require_labels: bool
) -> tuple[Table, list[Array], dict[str, str], tuple[str, ...] | None]:
    """Read `file.npz`, or the rows of one split with `file.npz#train`, `#val` or `#test`.

    Gives the table of everything that has one value an image, the images (h, w[, c]) uint8, the names of the arrays
    used by role, and the class names where the file has them.
    """
    name, split = parse_reference(reference)
    path = existing(name)
    sha256 = file_sha256(path, name)
    arrays = load_arrays(path, name)
    used = {
        role: _find(arrays, given.get(role, f"{role}s"), name)
        for role in ("image", "label")
        if role == "image" or require_labels or given.get(role, f"{role}s") in arrays
    }
    images = arrays[used["image"]]
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3, 4)):
        raise DataError(
            f"{name}, array {used['image']!r}: is {images.dtype} {images.shape}; "
            "give uint8 (n, h, w) or (n, h, w, c) with 1, 3 or 4 channels"
        )
    if not len(images):
        raise DataError(f"{name}, array {used['image']!r}: holds no images; give some")
    for role in used:
        shape = arrays[used[role]].shape
        if shape[:1] != images.shape[:1] or (role == "label" and len(shape) != 1):
            raise DataError(
                f"{name}, array {used[role]!r}: has shape {shape}, not one label for each of {len(images)} images"
            )
    classes = arrays.get("classes")
    # What has one value an image goes into the table, to be written back beside the predictions.
    columns = {
        key: pa.array(each.tolist())
        for key, each in arrays.items()
        if each.shape == (len(images),) and each.dtype.kind in "biufUS" and (key != "classes" or key in used.values())
    }
    columns = columns or {"row": pa.array(range(1, len(images) + 1))}
    table = Table(reference, pa.table(columns), sha256)
    if split:
        chosen = rows_of(split, arrays.get("split"), reference, len(images))
        return table.take(chosen), [images[row] for row in chosen], used, _names(classes)
    return table, list(images), used, _names(classes)


def load_arrays(path: Path, name: str) -> dict[str, Array]:
    """All arrays of an .npz file by name; DataError where one is not a plain array, or the file not whole."""
    try:
        # Opened here, since numpy leaves a file that is no archive open.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            return {key: _array(file, key) for key in file.files}
    except (*UNREADABLE, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{name}: not a readable .npz of plain arrays ({reason}); write it with numpy.savez") from error


def _array(file: Any, key: str) -> Array:
    """An array of an open .npz file; one that is larger than memory should hold is unpacked to a file and mapped."""
    member = key if key in file.zip.namelist() else f"{key}.npy"
    if file.zip.getinfo(member).file_size <= spill.ROOM:
        found: Array = file[key]
        return found
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


def _find(arrays: Mapping[str, Array], key: str, name: str) -> str:
    if key in arrays:
        return key
    raise DataError(f"{name}: has no array {key!r}{suggestion(key, list(arrays))}; it has {shortened(list(arrays))}")


def rows_of(split: str, codes: Array | None, reference: str, count: int) -> list[int]:
    """The rows of a split by its code, 0, 1 or 2, in the array `codes`."""
    if split not in SPLITS:
        raise DataError(f"{reference}: no split is called {split!r}; use #train, #val or #test")
    if codes is None:
        raise DataError(f"{reference}: the file has no array 'split'; leave out #{split} to use all rows")
    if codes.shape != (count,) or codes.dtype.kind not in "iu":
        raise DataError(
            f"{reference}: array 'split' must hold one integer (0, 1, 2) a row, not {codes.dtype} {codes.shape}"
        )
    odd = np.flatnonzero(~np.isin(codes, list(SPLITS.values())))
    if len(odd):
        where = place(reference, int(odd[0]), None, "split")
        raise DataError(f"{where}: is {codes[odd[0]]}; use 0 for train, 1 for val, 2 for test")
    rows: list[int] = np.flatnonzero(codes == SPLITS[split]).tolist()
    if not rows:
        raise DataError(f"{reference}: no row has {SPLITS[split]} in the array 'split'; choose another split")
    return rows


def _names(classes: Array | None) -> tuple[str, ...] | None:
    return None if classes is None else tuple(str(each) for each in classes.tolist())
