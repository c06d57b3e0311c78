"""Series as arrays in an .npz file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from adapterhub_lite.api import (
    DataError,
    Table,
    counted,
    did_you_mean,
    existing,
    file_sha256,
    load_arrays,
    parse_reference,
    place,
    rows_of_split,
    shortened,
)
from adapterhub_series.data.collected import Array, Collected, numbered_channels
from adapterhub_series.data.numbers import LARGEST
from adapterhub_series.data.wide import shortened_at_end

VALUES = ("x", "X", "series", "data")
ANSWERS = {"label": ("y", "Y", "label", "labels"), "target": ("y", "Y", "target", "targets")}


def read_npz(reference: str, given: Mapping[str, str], answer: str, required: bool) -> Collected:
    """Read `file.npz`, or the rows of one split with `file.npz#train`, `#val` or `#test`.

    Arrays: `x` (or `X`, `series`, `data`), numbers (n, time) or (n, time, channels); `y` (or `label`, `target`), one a
    series; and where they are there `lengths`, steps a series; `channels`, their names; `classes`, the names behind
    integer labels; `split`, 0, 1 or 2 a series. Other arrays with one value a series stay beside them in the table.
    Raises DataError with array, row and step.
    """
    name, split = parse_reference(reference)
    path = existing(name)
    sha256 = file_sha256(path, name)
    arrays = load_arrays(path, name, split)
    values_name = _first(arrays, VALUES, "array of series", name)
    values = _values(arrays[values_name], name, values_name)
    used = {role: _find(arrays, array, role, name, len(values)) for role, array in given.items() if role != "channels"}
    if answer not in used and (required or any(candidate in arrays for candidate in ANSWERS[answer])):
        answer_array = _first(arrays, ANSWERS[answer], f"array of {answer}s", name)
        used[answer] = _find(arrays, answer_array, answer, name, len(values))
    columns = {
        key: pa.array(column.tolist())
        for key, column in arrays.items()
        if column.shape == (len(values),) and column.dtype.kind in "biufUS" and (key not in ("classes", "channels"))
    }
    table = Table(reference, pa.table({"row": pa.array(range(1, len(values) + 1)), **columns}), sha256)
    notes: tuple[str, ...] = ()
    if "lengths" in arrays:
        series = _cut(values, arrays["lengths"], name)
    else:
        series, notes = shortened_at_end(values)
    channels = _channels(arrays.get("channels"), values.shape[2], name)
    if values.shape[2] > values.shape[1]:
        notes = (
            *notes,
            f"array {values_name!r} is read as {values.shape[1]} steps of {values.shape[2]} channels, (n, time, channels);"
            " transpose it if it is (n, channels, time)",
        )
    classes = arrays.get("classes")
    declared = None if classes is None or answer != "label" else tuple(str(label) for label in classes.tolist())
    if split:
        chosen = rows_of_split(split, arrays.get("split"), reference, len(values))
        table, series = table.take(chosen), [series[row] for row in chosen]
    return Collected(series, channels, table, used, declared, notes, number="row")


def _first(arrays: Mapping[str, Array], names: Sequence[str], what: str, source: str) -> str:
    present = next((name for name in names if name in arrays), None)
    if present is None:
        raise DataError(f"{source}: has no {what}; call it {names[0]!r}: it has {shortened(list(arrays))}")
    return present


def _find(arrays: Mapping[str, Array], name: str, role: str, source: str, count: int) -> str:
    if name not in arrays:
        near = did_you_mean(name, list(arrays))
        raise DataError(f"{source}: has no array {name!r} (for {role!r}){near}; it has {shortened(list(arrays))}")
    if arrays[name].shape != (count,):
        raise DataError(
            f"{source}, array {name!r}: has shape {arrays[name].shape}, not one value for each of {count} series"
        )
    return name


def _values(values: Array, source: str, name: str) -> Array:
    """The array as (n, time, channels) float32."""
    if values.ndim not in (2, 3) or values.dtype.kind not in "biuf" or 0 in values.shape:
        raise DataError(
            f"{source}, array {name!r}: is {values.dtype} {values.shape}; give numbers (n, time) or (n, time, channels)"
        )
    wrong: Array = np.argwhere(np.abs(values.astype(np.float64)) > LARGEST)
    if len(wrong):
        row, step = int(wrong[0][0]), int(wrong[0][1])
        raise DataError(
            f"{place(source, row)}, array {name!r}, step {step + 1}: {values[tuple(wrong[0])]!s} is infinite or too large "
            "for a 32-bit number; correct it, or write nan"
        )
    plain: Array = values.astype(np.float32)
    return plain[:, :, None] if plain.ndim == 2 else plain


def _cut(values: Array, lengths: Array, source: str) -> list[Array]:
    if lengths.shape != (len(values),) or lengths.dtype.kind not in "iu":
        raise DataError(f"{source}, array 'lengths': is {lengths.dtype} {lengths.shape}; give one integer a series")
    wrong = np.flatnonzero((lengths < 1) | (lengths > values.shape[1]))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{place(source, row)}, array 'lengths': is {lengths[row]}, where series have 1 to {values.shape[1]} steps"
        )
    return [whole[:length] for whole, length in zip(values, lengths.tolist(), strict=True)]


def _channels(names: Any, count: int, source: str) -> tuple[str, ...]:
    if names is None:
        return numbered_channels(count)
    if names.shape != (count,) or names.dtype.kind not in "US":
        shown = counted(count, "channel")
        raise DataError(
            f"{source}, array 'channels': is {names.dtype} {names.shape}; give one name for each of {shown}"
        )
    return tuple(str(channel) for channel in names.tolist())
