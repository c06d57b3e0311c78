"""Holding out a part of a dataset, by class and by group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from random import Random
from typing import Any, TypeVar

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import ConfigError, DataError

BINS = 10
Key = TypeVar("Key", bound=Hashable)


def split(
    dataset: Dataset, fraction: float, *, seed: int = 0, groups: Sequence[Hashable] | None = None
) -> tuple[Dataset, Dataset]:
    """Split into (train, held out), with about `fraction` of the rows held out; both keep the order of the source.

    With labels, each class is held out in proportion, and every class keeps a row in train; a class with one row has it
    there. Where rows have several labels, or words with tags, this holds for each of them as nearly as can be (iterative
    stratification, Sechidis et al. 2011); numbers to be predicted are held out in proportion from ten bins of equal
    size. With `groups` (one value a row: a contract, a patient; by default those of the dataset), the rows of a group
    stay together, so the fraction is met only as nearly as the groups allow. The same seed gives the same split. Raises
    DataError where nothing can be held out.
    """
    if not isinstance(dataset, Dataset):
        raise ConfigError(f"split takes a data set from load_data, not {type(dataset).__name__}")
    if isinstance(fraction, bool) or not isinstance(fraction, float | int) or not 0 < fraction < 1:
        raise ConfigError(f"fraction {fraction} cannot be held out; give a number between 0 and 1, such as 0.2")
    if len(dataset) < 2:
        raise DataError(
            f"{dataset.source}: has {len(dataset)} row, and a split needs 2; give more rows or a separate file"
        )
    classes = _classes(dataset)
    random = Random(seed)
    groups = groups if groups is not None else dataset.groups
    if groups is None and all(len(labels) == 1 for labels in classes):
        held = _held_rows([labels[0] for labels in classes], fraction, random)
        reason = "every class has a single row"
    elif groups is None:
        held = _held_by_labels(classes, fraction, random)
        reason = "each row is the last one of some label"
    else:
        if len(groups) != len(dataset):
            raise DataError(f"{dataset.source}: {len(groups)} groups given for {len(dataset)} rows; give one a row")
        held = _held_groups(classes, groups, fraction, random)
        reason = "each group holds all rows of some class" if len(set(groups)) > 1 else "all rows are in one group"
    if not held:
        raise DataError(f"{dataset.source}: nothing can be held out, {reason}; give more rows or a separate file")
    chosen = set(held)
    train = [row for row in range(len(dataset)) if row not in chosen]
    return dataset.select(train), dataset.select(sorted(held))


def rows_by(keys: Iterable[Key]) -> dict[Key, list[int]]:
    """The positions at which each key stands, in order."""
    rows: dict[Key, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    return rows


def _held_rows(classes: Sequence[int], fraction: float, random: Random) -> list[int]:
    """Rows to hold out: each class gives its share, rounded so that the total is right (largest remainders first)."""
    rows = rows_by(classes)
    order = sorted(rows)
    random.shuffle(order)  # equal remainders must not always favour the first class
    share = {label: len(rows[label]) * fraction for label in order}
    most = {label: len(rows[label]) - 1 for label in order}
    take = {label: min(int(share[label]), most[label]) for label in order}
    missing = max(1, round(len(classes) * fraction)) - sum(take.values())
    for label in sorted(order, key=lambda label: share[label] - take[label], reverse=True)[: max(0, missing)]:
        take[label] += take[label] < most[label]
    return [row for label in order for row in random.sample(rows[label], take[label])]


def _classes(dataset: Dataset) -> list[tuple[int, ...]]:
    """The classes each row counts for: one, or those of its labels or tags, -1 where it has none."""
    targets: Sequence[Any] = dataset.targets if dataset.targets is not None else [0] * len(dataset)
    if any(isinstance(target, float) for target in targets):
        bins = max(1, min(BINS, len(targets) // BINS))
        ranked = sorted(range(len(targets)), key=lambda row: targets[row])
        bin_of = {row: rank * bins // len(targets) for rank, row in enumerate(ranked)}
        return [(bin_of[row],) for row in range(len(targets))]
    single = all(isinstance(target, int) for target in targets)
    return [(target,) if single else tuple(sorted(set(target))) or (-1,) for target in targets]


def _held_by_labels(classes: Sequence[tuple[int, ...]], fraction: float, random: Random) -> list[int]:
    """Rows to hold out: label by label, the one with fewest rows left first, to the side that still wants it most."""
    rows = list(range(len(classes)))
    random.shuffle(rows)
    with_label: dict[int, list[int]] = {}
    for row in rows:
        for label in classes[row]:
            with_label.setdefault(label, []).append(row)
    in_train = {label: len(members) for label, members in with_label.items()}
    wanted = {label: count * fraction for label, count in in_train.items()}  # rows still to be held out
    left = dict(in_train)  # rows on no side yet
    total, undecided, held = len(rows) * fraction, set(rows), []
    while left:
        label = min(left, key=lambda name: (left[name], name))
        for row in with_label[label]:
            if row not in undecided:
                continue
            undecided.remove(row)
            labels = classes[row]
            gain = wanted[label] - (left[label] - wanted[label])  # what held out wants more of it than train does
            over = total - (len(undecided) + 1 - total)
            chosen = gain > 0 or (gain == 0 and over > 0)
            for name in labels:
                left[name] -= 1
            if chosen and all(in_train[name] > 1 for name in labels):
                held.append(row)
                total -= 1
                for name in labels:
                    in_train[name] -= 1
                    wanted[name] -= 1
        del left[label]
    return held


def _held_groups(
    classes: Sequence[tuple[int, ...]], groups: Sequence[Hashable], fraction: float, random: Random
) -> list[int]:
    """Rows of the groups to hold out: in random order, each group that brings every class nearer to its share."""
    rows = rows_by(groups)
    counts = {group: Counter(label for row in members for label in classes[row]) for group, members in rows.items()}
    left = Counter(label for labels in classes for label in labels)  # rows of each class still in train
    wanted = {label: count * fraction for label, count in left.items()}
    order = list(rows)
    random.shuffle(order)
    held: list[int] = []
    nearest: tuple[float, Hashable] | None = None
    for group in order:
        if any(left[label] <= count for label, count in counts[group].items()):
            continue  # the last rows of a class stay in train
        gain = sum(abs(wanted[label]) - abs(wanted[label] - count) for label, count in counts[group].items())
        if nearest is None or gain > nearest[0]:
            nearest = (gain, group)
        if gain > 0:
            held += rows[group]
            left.subtract(counts[group])
            for label, count in counts[group].items():
                wanted[label] -= count
    if not held and nearest is not None:  # every group is larger than what was asked for
        return rows[nearest[1]]
    return held
