"""A part of the training data, for learning curves and for comparisons with few labels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from random import Random

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.request import SEVERAL
from adapterhub_lite.data.roles.columns import counted
from adapterhub_lite.data.splits import rows_by
from adapterhub_lite.errors import ConfigError


def subsample(dataset: Dataset, *, shots: int | None = None, fraction: float | None = None, seed: int = 0) -> Dataset:
    """Keep a few rows a class, or a share of all rows, in the order of the source.

    The same seed gives the same rows, and of two sizes the smaller is part of the larger, so that a learning curve adds
    labels and does not exchange them. `shots` takes that many rows of every class (all of a class that has fewer; of
    data with several labels a row, rows until every label has as many). `fraction` takes that share of every class and
    at least one row of it, of data with several labels a row by the rarest label of each (after Sechidis et al. 2011,
    who give rare labels their rows first); where rows belong to groups it takes that share of the groups, whole.

    Raises:
        ConfigError: both or neither are given, a number that is no size, or shots of data without classes.
    """
    if not isinstance(dataset, Dataset):
        raise ConfigError(f"subsample takes a data set from load_data, not {type(dataset).__name__}")
    if (shots is None) == (fraction is None):
        raise ConfigError("give either shots or a fraction of the data, not both")
    random = Random(seed)
    if shots is not None:
        if type(shots) is not int or shots < 1:
            raise ConfigError(f"--shots {shots}: give at least 1 row a class")
        rows, note = _shots(dataset, shots, random)
    else:
        assert fraction is not None
        if not 0 < fraction <= 1:
            raise ConfigError(f"--fraction {fraction}: give a share above 0 and up to 1, such as 0.1")
        if dataset.groups is not None:
            rows = _fraction_of_groups(dataset.groups, fraction, random)
        else:
            rows = _fraction(dataset, fraction, random)
        note = f"{len(rows)} of {counted(len(dataset), 'row')} kept ({fraction:.4g} of the data, seed {seed})"
    return replace(dataset.select(sorted(rows)), notes=(*dataset.notes, note))


def _shots(dataset: Dataset, shots: int, random: Random) -> tuple[list[int], str]:
    if not dataset.labels or dataset.targets is None:
        raise ConfigError("--shots counts rows of each class, and this data has no classes; use --fraction")
    order = list(range(len(dataset)))
    random.shuffle(order)
    left = [shots] * len(dataset.labels)
    rows = []
    for row in order:
        wanted = _classes_of(dataset, row)
        if any(left[label] > 0 for label in wanted):
            rows.append(row)
            for label in wanted:
                left[label] -= 1
    if dataset.form == SEVERAL:
        # Rows without any label are what the others are told apart from.
        rows += [row for row in order if not _classes_of(dataset, row)][:shots]
    short = [name for name, missing in zip(dataset.labels, left, strict=True) if missing > 0]
    fewer = f"; {counted(len(short), 'class has', 'classes have')} fewer" if short else ""
    return rows, f"{len(rows)} of {counted(len(dataset), 'row')} kept ({shots} a class{fewer})"


def _classes_of(dataset: Dataset, row: int) -> Sequence[int]:
    """The classes of a row; of a row of tagged words those that occur."""
    assert dataset.targets is not None
    target = dataset.targets[row]
    return (target,) if isinstance(target, int) else tuple(set(target))


def _fraction(dataset: Dataset, fraction: float, random: Random) -> list[int]:
    classes: list[Sequence[int]] = [()] * len(dataset)
    if dataset.labels and dataset.targets is not None:
        classes = [_classes_of(dataset, row) for row in range(len(dataset))]
    counts = Counter(label for labels in classes for label in labels)
    rows = rows_by(min(labels, key=lambda label: (counts[label], label), default=-1) for labels in classes)
    taken, having = set[int](), dict[int, int]()
    for members in rows.values():
        random.shuffle(members)
        taken.update(members[: math.ceil(len(members) * fraction)])
        for row in members:
            for label in classes[row]:
                having.setdefault(label, row)
    # A label that is nowhere the rarest may have no row yet; of each, the first in this order is always taken.
    return [*taken.union(having.values())]


def _fraction_of_groups(groups: Sequence[Hashable], fraction: float, random: Random) -> list[int]:
    names = list(dict.fromkeys(groups))
    random.shuffle(names)
    kept = set(names[: math.ceil(len(names) * fraction)])
    return [row for row, group in enumerate(groups) if group in kept]
