"""Inputs made from the columns of a table: at once, or one at a time where the table is larger than memory."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from adapterhub_lite.data.table import Table


class Items(Sequence[Any]):
    """Inputs of a table larger than memory: each is made anew whenever it is asked for."""

    def __init__(
        self, table: Table, columns: Sequence[str], make: Callable[..., Any], rows: Sequence[int] | None = None
    ) -> None:
        self._table, self._columns, self._make = table, tuple(columns), make
        self._rows: Sequence[int] = range(len(table)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.take(range(*index.indices(len(self))))
        row = self._rows[index]
        return self._make(row, *(self._table.values(name, row, row + 1)[0] for name in self._columns))

    def __iter__(self) -> Iterator[Any]:
        if not isinstance(self._rows, range) or self._rows != range(len(self._table)):
            yield from map(self.__getitem__, range(len(self)))
            return
        for row, values in enumerate(zip(*map(self._table.iterate, self._columns), strict=True)):
            yield self._make(row, *values)

    def take(self, indices: Sequence[int]) -> Items:
        """The inputs at `indices`, in that order."""
        return Items(self._table, self._columns, self._make, array("q", [self._rows[i] for i in indices]))


def read_items(table: Table, columns: Sequence[str], make: Callable[..., Any]) -> Sequence[Any]:
    """Return `make(row, *values)` for every row. All rows are made once now, so that a bad one is refused at once.

    Raises:
        DataError: from `make`, at the first row that cannot be used.
    """
    rows = enumerate(zip(*map(table.iterate, columns), strict=True))
    if not table.mapped:
        return [make(row, *values) for row, values in rows]
    for row, values in rows:
        make(row, *values)
    return Items(table, columns, make)
