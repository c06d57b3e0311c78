"""Holding out a part of a dataset, by class and by group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from random import Random

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import ConfigError, DataError


def split(
    dataset: Dataset, fraction: float, *, seed: int = 0, groups: Sequence[Hashable] | None = None
) -> tuple[Dataset, Dataset]:
    """Split into (train, held out), with about `fraction` of the rows held out; both keep the order of the source.

    With labels, each class is held out in proportion, and every class keeps a row in train; a class with one row has it
    there. With `groups` (one value a row: a contract, a patient), the rows of a group stay together, so the fraction is
    met only as nearly as the groups allow. The same seed gives the same split. Raises DataError where nothing can be
    held out.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"fraction {fraction} cannot be held out; give a number between 0 and 1, such as 0.2")
    if len(dataset) < 2:
        raise DataError(
            f"{dataset.source}: has {len(dataset)} row, and a split needs 2; give more rows or a separate file"
        )
    classes: Sequence[int] = dataset.targets if dataset.targets is not None else [0] * len(dataset)
    random = Random(seed)
    if groups is None:
        held = _held_rows(classes, fraction, random)
        reason = "every class has a single row"
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


def _held_rows(classes: Sequence[int], fraction: float, random: Random) -> list[int]:
    """Rows to hold out: each class gives its share, rounded so that the total is right (largest remainders first)."""
    rows: dict[int, list[int]] = {}
    for row, label in enumerate(classes):
        rows.setdefault(label, []).append(row)
    order = sorted(rows)
    random.shuffle(order)  # equal remainders must not always favour the first class
    share = {label: len(rows[label]) * fraction for label in order}
    most = {label: len(rows[label]) - 1 for label in order}
    take = {label: min(int(share[label]), most[label]) for label in order}
    missing = max(1, round(len(classes) * fraction)) - sum(take.values())
    for label in sorted(order, key=lambda each: share[each] - take[each], reverse=True)[: max(0, missing)]:
        take[label] += take[label] < most[label]
    return [row for label in order for row in random.sample(rows[label], take[label])]


def _held_groups(classes: Sequence[int], groups: Sequence[Hashable], fraction: float, random: Random) -> list[int]:
    """Rows of the groups to hold out: in random order, each group that brings every class nearer to its share."""
    rows: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    counts = {group: Counter(classes[row] for row in its) for group, its in rows.items()}
    left = Counter(classes)  # rows of each class still in train
    wanted = {label: count * fraction for label, count in left.items()}
    order = list(rows)
    random.shuffle(order)
    held: list[int] = []
    nearest: tuple[float, Hashable] | None = None
    for group in order:
        if any(left[label] <= count for label, count in counts[group].items()):
            continue  # the last rows of a class stay in train
        gain = sum(abs(wanted[each]) - abs(wanted[each] - count) for each, count in counts[group].items())
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
