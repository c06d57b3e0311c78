"""Python values into Arrow columns, a batch at a time, so that a large file is never all Python objects at once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from adapterhub_lite.data.spill import Batches
from adapterhub_lite.data.table import JSON_TYPE, MOST_COLUMNS, check_names, place
from adapterhub_lite.errors import DataError

BATCH_ROWS = 4096
BATCH_CHARACTERS = (
    4_000_000  # a batch ends at whichever comes first: documents of a megabyte must not wait for 4096 others
)

MOST_SCATTERED = 500
"""Different keys of rows that have few of them each: every row costs a value for each."""


def column_array(values: Sequence[Any]) -> pa.Array:
    """One Arrow array; JSON text where the values hold lists or objects, or have no one type.

    Raises UnicodeEncodeError for a string with half a surrogate pair, TypeError for an object JSON cannot hold.
    """
    if any(isinstance(value, (list, dict, tuple)) for value in values):
        return json_array(values)
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return json_array(values)


def checked_array(values: Sequence[Any], where: Callable[[int], str]) -> pa.Array:
    """What `column_array` returns.

    Raises:
        DataError: a value that a table cannot hold, at the place `where(index)`.
    """
    try:
        return column_array(values)
    except (UnicodeEncodeError, TypeError) as error:
        for index, value in enumerate(values):
            try:
                column_array([value])
            except UnicodeEncodeError:
                raise DataError(
                    f"{where(index)}: holds half of a surrogate pair (such as \\ud83d alone), which is no character; "
                    "repair the text"
                ) from error
            except TypeError:
                raise DataError(
                    f"{where(index)}: holds a {type(value).__name__}, which a table cannot; "
                    "give text, numbers, lists or objects"
                ) from error
        raise


def json_array(values: Sequence[Any]) -> pa.Array:
    """The values as JSON text under Arrow's JSON type, missing ones null."""
    texts = [None if _missing(value) else json.dumps(value, ensure_ascii=False) for value in values]
    return pa.array(texts, pa.utf8()).cast(JSON_TYPE)


def join(chunks: Sequence[pa.Array]) -> pa.ChunkedArray:
    """One column from the arrays of its batches, whose types may differ: ints with floats become floats, other mixtures JSON."""
    types = {chunk.type for chunk in chunks} - {pa.null()}
    if not types:
        return pa.chunked_array(chunks, pa.null())
    if len(types) == 1:
        return pa.chunked_array([_to(chunk, next(iter(types))) for chunk in chunks])
    if types == {pa.int64(), pa.float64()}:
        try:
            return pa.chunked_array([chunk.cast(pa.float64()) for chunk in chunks])
        except pa.ArrowInvalid:  # an integer too large for a float to hold
            pass
    return pa.chunked_array([_to(chunk, JSON_TYPE) for chunk in chunks])


def _to(chunk: pa.Array, kind: pa.DataType) -> pa.Array:
    if chunk.type == kind:
        return chunk
    if chunk.type == pa.null():
        return pa.nulls(len(chunk), pa.utf8()).cast(kind) if kind == JSON_TYPE else pa.nulls(len(chunk), kind)
    return json_array(chunk.to_pylist())


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


class RowBuilder:
    """Collects rows given as objects and gives one Arrow table; a key missing from a row becomes null."""

    def __init__(self, source: str, room: int | None = None) -> None:
        self.source = source
        self.lines: Sequence[int] = ()
        self._names: dict[str, None] = {}  # an ordered set: columns stand in the order of their first appearance
        self._rows: list[Mapping[str, Any]] = []
        self._widest = 0
        self._characters = 0
        self._batches = Batches(room)
        self.mapped = False
        """Whether the table that `finish` returned lies in a file."""
        self._done = 0

    def add(self, row: Mapping[str, Any], characters: int) -> None:
        self._rows.append(row)
        self._names.update(dict.fromkeys(row))
        self._widest = max(self._widest, len(row))
        if len(self._names) > max(MOST_SCATTERED, 2 * self._widest):
            where = self._where(self._done + len(self._rows) - 1)
            raise DataError(
                f"{where}: with its keys the rows so far have {len(self._names):,} different ones, and none has more than "
                f"{self._widest:,}; a key is a column, so keep what varies in values"
            )
        if len(self._names) > MOST_COLUMNS:
            check_names(list(self._names), f"{self.source}:")
        self._characters += characters
        if len(self._rows) >= BATCH_ROWS or self._characters >= BATCH_CHARACTERS:
            self._flush()

    def finish(self) -> pa.Table:
        self._flush()
        batches, self.mapped = self._batches.finish()
        # By number, for a batch has the first of the names: to look one up by itself goes through all of them.
        return pa.table(
            {
                name: join([batch.column(i) if i < batch.num_columns else pa.nulls(len(batch)) for batch in batches])
                for i, name in enumerate(self._names)
            }
        )

    def _flush(self) -> None:
        if self._rows:
            self._batches.add(pa.record_batch({name: self._column(name) for name in self._names}))
        self._done += len(self._rows)
        self._rows, self._characters = [], 0

    def _column(self, name: str) -> pa.Array:
        return checked_array([row.get(name) for row in self._rows], lambda i: self._where(self._done + i, name))

    def _where(self, row: int, name: str | None = None) -> str:
        return place(self.source, row, self.lines[row] if self.lines else None, name)
