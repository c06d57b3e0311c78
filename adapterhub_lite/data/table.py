"""One table of rows, wherever it came from, that can say where each of its values stands."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from adapterhub_lite.errors import DataError
from adapterhub_lite.names import first_repeated

# Lists, objects and columns of mixed types are kept as JSON text under Arrow's own JSON type, so that every value comes
# back exactly as it was: Arrow structs would add the missing keys to every row, and have no type for "3 or 'three'".
JSON_TYPE = pa.json_(pa.utf8())

MOST_COLUMNS = 10_000
BLOCK = 1024  # values of a column that are Python objects at once
HUGGINGFACE_METADATA = b"huggingface"  # where `datasets` keeps its features in an Arrow schema


@dataclass(frozen=True, eq=False)
class Table:
    """Rows with named columns, the hash of what they were read from, and the place of every row.

    `rows` is set once rows have been taken from a larger table: the number each row had there, counted from 0, so that
    a message about a training split still names the row of the file. A table that is larger than memory is `mapped`:
    `arrow` lies in a file, and rows taken from it are `picked` from there and not copied.
    """

    source: str
    arrow: pa.Table
    sha256: str
    lines: Sequence[int] | None = None
    rows: Sequence[int] | None = None
    notes: tuple[str, ...] = ()
    mapped: bool = False
    picked: Sequence[int] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.arrow.column_names)

    def __len__(self) -> int:
        return int(self.arrow.num_rows) if self.picked is None else len(self.picked)

    def column(self, name: str) -> list[Any]:
        """The values of one column as Python objects; None where a value is missing."""
        return self.values(name, 0, len(self))

    def values(self, name: str, start: int, stop: int) -> list[Any]:
        """The values of one column from row `start` up to, not including, row `stop`."""
        column = self.arrow.column(name)
        if self.picked is None:
            values = column.slice(start, stop - start).to_pylist()
        else:
            values = [column[row].as_py() for row in self.picked[start:stop]]
        if column.type == JSON_TYPE:
            return [None if text is None else json.loads(text) for text in values]
        return list(values)

    def iterate(self, name: str) -> Iterator[Any]:
        """The values of one column as Python objects, of which few are in memory at once."""
        for start in range(0, len(self), BLOCK):
            yield from self.values(name, start, min(start + BLOCK, len(self)))

    def take(self, indices: Sequence[int]) -> Table:
        """The rows at `indices` in that order, each still knowing its row and line in the source."""
        rows = self.rows if self.rows is not None else range(len(self))
        picked = self.picked if self.picked is not None else range(len(self))
        return replace(
            self,
            arrow=self.arrow if self.mapped else self.arrow.take(pa.array(indices, pa.int64())),
            lines=None if self.lines is None else array("q", [self.lines[i] for i in indices]),
            rows=array("q", [rows[i] for i in indices]),
            picked=array("q", [picked[i] for i in indices]) if self.mapped else None,
        )

    def copied_when_taken(self) -> Table:
        """The same table, but rows taken from it are copies even where it is mapped; for readers that copy columns anyway."""
        return replace(self, arrow=self.whole(), mapped=False, picked=None)

    def whole(self) -> pa.Table:
        """The rows of this table as one Arrow table; rows picked from a file are copied."""
        return self.arrow if self.picked is None else self.arrow.take(pa.array(self.picked, pa.int64()))

    def where(self, row: int, column: str | None = None) -> str:
        """Where row `row` (counted from 0) stands, as in "train.csv, row 17 (line 19), column 'text'"."""
        number = row if self.rows is None else self.rows[row]
        return place(self.source, number, None if self.lines is None else self.lines[row], column)

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """The names behind a column of integers or of lists of them, where `datasets` recorded it as a ClassLabel."""
        recorded = (self.arrow.schema.metadata or {}).get(HUGGINGFACE_METADATA)
        if recorded is None:
            return None
        try:
            feature = json.loads(recorded)["info"]["features"][column]
            # A list of them, as versions of `datasets` write it: [{...}], or {"feature": {...}, "_type": "List"}.
            feature = feature[0] if isinstance(feature, list) else feature.get("feature", feature)
            return tuple(map(str, feature["names"])) if feature["_type"] == "ClassLabel" else None
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return None


def place(source: str, row: int | None = None, line: int | None = None, column: str | None = None) -> str:
    """The place of a row (counted from 0, shown from 1) for a message."""
    parts = [source]
    if row is not None:
        parts.append(f"row {row + 1}" + (f" (line {line})" if line is not None else ""))
    elif line is not None:
        parts.append(f"line {line}")
    if column is not None:
        parts.append(f"column {column!r}")
    return ", ".join(parts)


def check_names(names: Sequence[str], where: str) -> None:
    """Check that no two columns have one name, and that there are not too many.

    Raises:
        DataError: beginning with `where`, such as "train.csv: the header".
    """
    if len(names) > MOST_COLUMNS:
        raise DataError(
            f"{where} has {len(names):,} columns where at most {MOST_COLUMNS:,} are read; keep those that are needed"
        )
    repeated = first_repeated(names)
    if repeated is not None:
        raise DataError(f"{where} names column {repeated!r} more than once; give each its own name")


def digest(table: pa.Table) -> str:
    """A SHA-256 of the names and values of a table in memory, the same however Arrow has chunked it."""
    total = hashlib.sha256()
    for name in table.column_names:
        total.update(json.dumps(name).encode() + b"\n")
        for chunk in table.column(name).chunks:
            for start in range(0, len(chunk), 4096):
                for value in chunk.slice(start, 4096).to_pylist():
                    total.update(json.dumps(value, default=_as_text).encode() + b"\n")
    return total.hexdigest()


def _as_text(value: object) -> str:
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)
