"""Images as arrays in an .npz file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from adapterhub_lite.api import (
    DataError,
    Table,
    did_you_mean,
    existing,
    file_sha256,
    load_arrays,
    parse_reference,
    rows_of_split,
    shortened,
)

Array = np.ndarray[Any, Any]
NAMES = {"image": ("images", "x"), "label": ("labels", "y")}
"""Names of the arrays of each role, in the order tried."""


def read_arrays(
    reference: str, given: Mapping[str, str], require_labels: bool
) -> tuple[Table, list[Array], dict[str, str], tuple[str, ...] | None]:
    """Read `file.npz`, or the rows of one split with `file.npz#train`, `#val` or `#test`.

    Where labels are 0 or 1 for each class, rows have lists of them.

    Gives the table of everything that has one value an image, the images (h, w[, c]) uint8, the names of the arrays
    used by role, and the class names where the file has them.
    """
    name, split = parse_reference(reference)
    path = existing(name)
    sha256 = file_sha256(path, name)
    arrays = load_arrays(path, name, split)
    names = {role: given.get(role) or next((n for n in NAMES[role] if n in arrays), NAMES[role][0]) for role in NAMES}
    used = {
        role: _find(arrays, names[role], name)
        for role in NAMES
        if role == "image" or require_labels or names[role] in arrays
    }
    images = arrays[used["image"]]
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3, 4)):
        raise DataError(
            f"{name}, array {used['image']!r}: is {images.dtype} {images.shape}; "
            "give uint8 (n, h, w) or (n, h, w, c) with 1, 3 or 4 channels"
        )
    if not len(images):
        raise DataError(f"{name}, array {used['image']!r}: holds no images; give some")
    classes = arrays.get("classes")
    lists: dict[str, Any] = {}
    if "label" in used:
        labels = arrays[used["label"]]
        if labels.ndim == 2 and labels.shape[1] == 1:
            arrays[used["label"]] = labels[:, 0]
        elif (
            labels.ndim == 2
            and len(labels) == len(images)
            and labels.dtype.kind in "biu"
            and set(np.unique(labels)) <= {0, 1}
        ):
            lists = {used["label"]: _several(labels, classes, f"{name}, array {used['label']!r}")}
    for role in used.keys() - {"label" if lists else ""}:
        shape = arrays[used[role]].shape
        if shape[:1] != images.shape[:1] or (role == "label" and len(shape) != 1):
            raise DataError(
                f"{name}, array {used[role]!r}: has shape {shape}, not one label for each of {len(images)} images"
            )
    # What has one value an image goes into the table, to be written back beside the predictions.
    columns = {
        key: pa.array(array.tolist())
        for key, array in arrays.items()
        if array.shape == (len(images),) and array.dtype.kind in "biufUS" and (key != "classes" or key in used.values())
    }
    columns = columns | lists or {"row": pa.array(range(1, len(images) + 1))}
    table = Table(reference, pa.table(columns), sha256)
    if split:
        chosen = rows_of_split(split, arrays.get("split"), reference, len(images))
        return table.take(chosen), [images[row] for row in chosen], used, _names(classes)
    return table, list(images), used, _names(classes)


def _several(labels: Array, classes: Array | None, where: str) -> pa.Array:
    """The classes of every image, of a 0 or 1 for each class."""
    names = _names(classes) or tuple(str(number) for number in range(labels.shape[1]))
    if len(names) != labels.shape[1]:
        raise DataError(f"{where}: has {labels.shape[1]} columns, and there are {len(names)} classes; give as many")
    return pa.array([[names[number] for number in np.flatnonzero(row)] for row in labels], pa.list_(pa.utf8()))


def _find(arrays: Mapping[str, Array], key: str, name: str) -> str:
    if key in arrays:
        return key
    raise DataError(f"{name}: has no array {key!r}{did_you_mean(key, list(arrays))}; it has {shortened(list(arrays))}")


def _names(classes: Array | None) -> tuple[str, ...] | None:
    return None if classes is None else tuple(str(name) for name in classes.tolist())
