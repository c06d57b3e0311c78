"""What findings are looked for in: one pass over all rows, and a sample of them kept at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adapterhub_lite.auditing.finding import DATA, HELD_OUT
from adapterhub_lite.auditing.items import key_of, text_of
from adapterhub_lite.auditing.personal import Personal
from adapterhub_lite.auditing.traits import traits_of
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import DataError
from adapterhub_lite.names import one_line
from adapterhub_lite.plugins.spec import Modality

if TYPE_CHECKING:
    from adapterhub_lite.auditing.learnt import Learnt

SAMPLED = 20_000
"""Rows of a side that are compared with each other, and encoded; of more a sample is taken, and said."""


@dataclass(frozen=True, eq=False)
class Side:
    """The rows to learn from, or those to score on."""

    name: str
    dataset: Dataset
    keys: NDArray[np.int64]
    """(n,), equal for inputs that are equal but for case, punctuation and white space."""
    traits: NDArray[np.float32]
    """(n, traits), what can be seen of an input without reading it."""
    trait_names: tuple[str, ...]
    personal: Personal
    sampled: NDArray[np.int64]
    """Positions of the rows that are at hand, in order."""
    items: Sequence[Any]
    """The inputs at these positions."""

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def labels(self) -> NDArray[np.int64] | None:
        """(n,) classes; None where a row has several, none, or a number."""
        targets = self.dataset.targets
        if targets is None or not self.dataset.labels or any(not isinstance(target, int) for target in targets):
            return None
        return np.asarray(targets, dtype=np.int64)

    @cached_property
    def texts(self) -> list[str]:
        """Of the rows at hand."""
        return [text_of(item) for item in self.items]

    def column(self, name: str) -> list[str] | None:
        """The values of a column as text, (n,); None where the side has no such column."""
        table = self.dataset.table
        if table is None or name not in table.columns or len(table) != len(self):
            return None
        return ["" if value is None else str(value) for value in table.iterate(name)]


@dataclass(frozen=True, eq=False)
class Material:
    """Everything that findings are looked for in."""

    data: Side
    held_out: Side | None
    modality: Modality
    slices: Mapping[str, Sequence[str]]
    """Values of columns that rows are compared by, (n,) of the data, by name."""
    learnt: Learnt | None = None
    why_not_learnt: str = "no base was given; give one with --base"
    seed: int = 0

    @property
    def sides(self) -> Iterator[Side]:
        """The data, and what is scored on where there is any."""
        yield self.data
        if self.held_out is not None:
            yield self.held_out


def side_of(dataset: Dataset, modality: Modality, *, held_out: bool = False, seed: int = 0) -> Side:
    """Look at every row of a data set once, and keep a sample of its inputs.

    Raises:
        DataError: a file that cannot be read; names its row.
    """
    n = len(dataset)
    sampled = np.arange(n)
    if n > SAMPLED:
        sampled = np.sort(np.random.default_rng(seed).choice(n, SAMPLED, replace=False))
    wanted = set(sampled.tolist()) if n > SAMPLED else None
    keys, kept = np.empty(n, dtype=np.int64), []
    personal, traits = Personal(), traits_of(modality, n)
    for row, item in enumerate(dataset.inputs):
        is_kept = wanted is None or row in wanted
        try:
            keys[row] = key_of(item, modality)
            traits.read(row, item, is_kept)
        except (
            OSError,
            ValueError,
            SyntaxError,
        ) as error:  # which Pillow raises for pictures that are cut off or broken
            number = 1 + (row if dataset.table is None or dataset.table.rows is None else dataset.table.rows[row])
            raise DataError(
                f"{dataset.source}, row {number}: cannot be read ({one_line(error)}); mend it or leave it out"
            ) from error
        if modality == "text":
            personal.read(row, text_of(item))
        if is_kept:
            kept.append(item)
    return Side(HELD_OUT if held_out else DATA, dataset, keys, traits.values, traits.names, personal, sampled, kept)
