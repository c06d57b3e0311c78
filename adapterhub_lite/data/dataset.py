"""Checked examples for one task: what every later stage is given."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from adapterhub_lite.data.items import Items
from adapterhub_lite.data.table import Table
from adapterhub_lite.names import short
from adapterhub_lite.notebook import table


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Validated inputs and, where there are any, their targets.

    `inputs[i]`, `targets[i]` and row `i` of `table` belong together. A target is a class index, where the form is
    "several" a tuple of them, in a regression a number; tasks of plug-ins may have others. `labels[index]` is the class
    name. `sha256` is that of the source, and stays the same in a selection. `notes` are lines for the user on what was
    repaired or may be a mistake. `form` says which kind of data it is where a task reads several kinds, such as "chat".
    `options` are the options of the task that the user set.
    """

    task: str
    inputs: Sequence[Any]
    targets: Sequence[Any] | None
    labels: tuple[str, ...]
    columns: Mapping[str, str]
    source: str
    sha256: str
    table: Table | None
    notes: tuple[str, ...] = ()
    form: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    groups: Sequence[Hashable] | None = None
    """What each row came from, such as a patient or a company; rows of one are kept on one side of a split."""
    unknown: tuple[str, ...] = ()
    """Labels that an adapter does not know, in data it is evaluated on; as targets they are numbered behind `labels`."""
    files: Mapping[str, Any] = field(default_factory=dict)
    """What was said of the file beside its name; see `FileOptions`."""

    def __repr__(self) -> str:
        return f"<Dataset of {len(self)} rows for {self.task}, from {self.source}>"

    def _repr_html_(self) -> str:
        """The first rows, in a notebook."""
        rows = []
        for row in range(min(len(self), 5)):
            target = self.targets[row] if self.targets is not None else ""
            if self.labels and self.targets is not None:
                target = target if isinstance(target, tuple) else (target,)
                target = ", ".join(self.labels[label] for label in target)
            rows.append((row + 1, short(self.inputs[row]), target))
        return table(str(self).strip("<>"), rows, ("row", "input", "target"))

    def __len__(self) -> int:
        return len(self.inputs)

    def select(self, indices: Sequence[int]) -> Dataset:
        """The examples at `indices`, in that order, with the labels of the whole."""
        return replace(
            self,
            inputs=self.inputs.take(indices)
            if isinstance(self.inputs, Items)
            else tuple(self.inputs[i] for i in indices),
            targets=None if self.targets is None else tuple(self.targets[i] for i in indices),
            table=None if self.table is None else self.table.take(indices),
            groups=None if self.groups is None else tuple(self.groups[i] for i in indices),
        )
