"""Learning from a part of the data: the right number of each class, whole groups, and nested sizes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.request import SEVERAL
from adapterhub_lite.data.sampling import subsample
from adapterhub_lite.errors import ConfigError
from tests.reading import load_data

from .labelled import labelled

BANKING = Path(__file__).parents[2].parent / "shared" / "data" / "banking77" / "train.csv"


def rows_of(dataset: Dataset) -> list[int]:
    assert dataset.table is not None
    assert dataset.table.rows is not None
    return list(dataset.table.rows)


def test_shots_of_a_real_file() -> None:
    if not BANKING.is_file():
        pytest.skip("banking77 is not beside the project")
    whole = load_data(BANKING, "text-classification")
    few, more = (subsample(whole, shots=shots, seed=1) for shots in (5, 10))
    assert set(Counter(few.targets or ()).values()) == {5}
    assert set(Counter(more.targets or ()).values()) == {10}
    assert len(more) == 770
    assert set(rows_of(few)) < set(rows_of(more))  # a learning curve adds labels
    assert rows_of(more) == sorted(rows_of(more))
    assert more.labels == whole.labels
    assert [whole.inputs[row] for row in rows_of(more)] == list(more.inputs)
    assert rows_of(more) == rows_of(subsample(whole, shots=10, seed=1))
    assert rows_of(more) != rows_of(subsample(whole, shots=10, seed=2))


def test_a_class_with_fewer_rows_gives_all_and_says_so() -> None:
    few = subsample(labelled(["a"] * 9 + ["b"] * 2), shots=4)
    assert Counter(few.targets or ()) == {0: 4, 1: 2}
    assert few.notes[-1] == "6 of 11 rows kept (4 a class; 1 class has fewer)"


def test_a_fraction_takes_its_share_of_every_class() -> None:
    whole = labelled(["a"] * 100 + ["b"] * 30 + ["c"])
    part = subsample(whole, fraction=0.1, seed=5)
    assert Counter(part.targets or ()) == {0: 10, 1: 3, 2: 1}
    assert set(rows_of(part)) < set(rows_of(subsample(whole, fraction=0.25, seed=5)))
    assert rows_of(subsample(whole, fraction=1.0)) == list(range(len(whole)))


@pytest.mark.parametrize("seed", range(10))
def test_a_fraction_keeps_rare_labels_among_several(seed: int) -> None:
    # 400 rows with "common", every tenth of them with "seldom" too, two with "rare", some with none of them.
    labels = [
        ["common"] * (row % 8 > 0) + ["seldom"] * (row % 10 == 0) + ["rare"] * (row in (3, 9)) for row in range(400)
    ]
    rows = [{"text": f"text {row}", "tags": tags} for row, tags in enumerate(labels)]
    whole = load_data(rows, "text-classification", columns={"text": "text", "labels": "tags"})
    sizes = [subsample(whole, fraction=fraction, seed=seed) for fraction in (0.01, 0.05, 0.2, 1.0)]
    for part, fraction in zip(sizes, (0.01, 0.05, 0.2, 1.0), strict=True):
        counts = Counter(label for target in part.targets or () for label in target)
        share = {name: counts[index] for index, name in enumerate(whole.labels)}
        assert all(share.values())
        assert share["seldom"] >= math.ceil(40 * fraction)
        assert abs(share["common"] - 350 * fraction) <= 5 + 400 * fraction / 10
    assert all(set(rows_of(few)) <= set(rows_of(more)) for few, more in pairwise(sizes))


def test_a_fraction_of_groups_is_made_of_whole_groups() -> None:
    whole = labelled(["a", "b"] * 50)
    groups = tuple(f"engine {row // 7}" for row in range(100))  # 15 groups, the last of 2 rows
    part = subsample(replace(whole, groups=groups), fraction=0.25, seed=2)
    kept = set(part.groups or ())
    assert len(kept) == math.ceil(0.25 * 15)
    assert rows_of(part) == [row for row in range(100) if groups[row] in kept]


def test_several_labels_a_row() -> None:
    targets = tuple((0,) if row % 3 else (0, 1) for row in range(30)) + ((),) * 20
    whole = replace(labelled(["a", "b"] * 25), targets=targets, form=SEVERAL)
    part = subsample(whole, shots=3, seed=0)
    counts = Counter(label for target in part.targets or () for label in target)
    assert counts[0] >= 3
    assert counts[1] == 3
    assert sum(not target for target in part.targets or ()) == 3


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({}, "either shots or a fraction"),
        ({"shots": 1, "fraction": 0.5}, "either shots or a fraction"),
        ({"shots": 0}, "at least 1"),
        ({"fraction": 0.0}, "above 0"),
        ({"fraction": 1.5}, "above 0"),
    ],
)
def test_sizes_that_are_none(size: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        subsample(labelled(["a", "b"]), **size)


def test_shots_need_classes() -> None:
    data = load_data({"prompt": ["a", "b"], "completion": ["c", "d"]}, "causal-lm")
    with pytest.raises(ConfigError, match="use --fraction"):
        subsample(data, shots=1)
    assert len(subsample(data, fraction=0.5)) == 1


def test_rows_may_be_grouped_by_what_they_also_hold() -> None:
    rows = {"prompt": ["a", "a", "b"], "completion": ["c", "d", "e"]}
    data = load_data(rows, "causal-lm", columns={"prompt": "prompt", "completion": "completion", "group": "prompt"})
    assert list(data.groups or ()) == ["a", "a", "b"]
    with pytest.raises(ConfigError, match="both as"):
        load_data(rows, "causal-lm", columns={"prompt": "prompt", "completion": "prompt"})
