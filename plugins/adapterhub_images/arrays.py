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
        key: pa.array(array.tolist())
        for key, array in arrays.items()
        if array.shape == (len(images),) and array.dtype.kind in "biufUS" and (key != "classes" or key in used.values())
    }
    columns = columns or {"row": pa.array(range(1, len(images) + 1))}
    table = Table(reference, pa.table(columns), sha256)
    if split:
        chosen = rows_of_split(split, arrays.get("split"), reference, len(images))
        return table.take(chosen), [images[row] for row in chosen], used, _names(classes)
    return table, list(images), used, _names(classes)


def _find(arrays: Mapping[str, Array], key: str, name: str) -> str:
    if key in arrays:
        return key
    raise DataError(f"{name}: has no array {key!r}{did_you_mean(key, list(arrays))}; it has {shortened(list(arrays))}")


def _names(classes: Array | None) -> tuple[str, ...] | None:
    return None if classes is None else tuple(str(name) for name in classes.tolist())
