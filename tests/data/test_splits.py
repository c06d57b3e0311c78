"""Holding out: in proportion, without losing a class, and without leaking a group."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest

import adapterhub_lite as ah
from adapterhub_lite.data.splits import split
from adapterhub_lite.errors import ConfigError, DataError
from tests.reading import load_data

from .labelled import labelled

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def test_each_class_gives_its_share() -> None:
    data = labelled(["a"] * 60 + ["b"] * 30 + ["c"] * 10)
    train, held = split(data, 0.2, seed=3)
    assert (len(train), len(held)) == (80, 20)
    assert Counter(held.targets or ()) == {0: 12, 1: 6, 2: 2}
    assert sorted([*train.inputs, *held.inputs]) == sorted(data.inputs)
    assert held.table is not None
    assert held.table.column("text") == list(held.inputs)
    assert (train.labels, held.labels) == (data.labels, data.labels)


def test_a_seed_is_a_split() -> None:
    data = labelled(["a", "b"] * 50)
    assert split(data, 0.3, seed=1)[1].inputs == split(data, 0.3, seed=1)[1].inputs
    assert split(data, 0.3, seed=1)[1].inputs != split(data, 0.3, seed=2)[1].inputs


@pytest.mark.parametrize("seed", range(30))
def test_no_class_is_lost_to_train(seed: int) -> None:
    random = Random(seed)
    labels = [f"c{int(random.paretovariate(0.7)) % 12}" for _ in range(random.randint(5, 120))] + ["c0", "c0", "c1"]
    data = labelled(labels)
    fraction = random.choice([0.01, 0.1, 0.5, 0.9, 0.99])
    train, held = split(data, fraction, seed=seed)
    assert set(train.targets or ()) == set(range(len(data.labels)))
    assert len(held) >= 1
    assert len(train) + len(held) == len(data)
    if fraction <= 0.5:
        assert len(held) <= max(1, round(len(data) * fraction))


def test_without_labels_it_is_by_rows() -> None:
    data = load_data({"text": [str(index) for index in range(10)]}, "causal-lm")
    train, held = split(data, 0.25)
    assert (len(train), len(held)) == (8, 2)
    assert (train.targets, held.labels) == (None, ())


@pytest.mark.parametrize("seed", range(20))
def test_groups_do_not_leak(seed: int) -> None:
    random = Random(seed)
    groups = [random.randint(0, 40) for _ in range(600)]
    data = labelled([str(random.randint(0, 3)) for _ in groups])
    group_of = dict(zip(data.inputs, groups, strict=True))
    train, held = split(data, 0.2, seed=seed, groups=groups)
    assert not {group_of[text] for text in train.inputs} & {group_of[text] for text in held.inputs}
    assert 0.12 < len(held) / len(data) < 0.28
    assert set(train.targets or ()) == {0, 1, 2, 3}


def test_a_class_in_one_group_stays_in_train() -> None:
    data = labelled(["a", "a", "b", "b", "a", "a"])
    train, held = split(data, 0.5, groups=["g", "g", "h", "h", "i", "i"])
    assert set(train.targets or ()) == {0, 1}
    assert set(held.targets or ()) == {0}


def test_a_group_larger_than_the_share_is_still_held_out() -> None:
    data = labelled(["a", "b"] * 10)
    train, held = split(data, 0.05, groups=["g", "h"] * 5 + ["h", "g"] * 5)
    assert len(train) == len(held) == 10


def test_what_cannot_be_split() -> None:
    data = labelled(["a", "b", "c"])
    for fraction in (0, 1, -0.1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            split(data, fraction)
    with pytest.raises(DataError, match="nothing can be held out, every class has a single row"):
        split(data, 0.5)
    with pytest.raises(DataError, match="has 1 row, and a split needs 2"):
        split(data.select([0]), 0.5)
    with pytest.raises(DataError, match="2 groups given for 3 rows"):
        split(data, 0.5, groups=[1, 2])
    with pytest.raises(DataError, match="all rows are in one group"):
        split(labelled(["a", "b", "a", "b"]), 0.5, groups=[1, 1, 1, 1])
    with pytest.raises(DataError, match="each group holds all rows of some class"):
        split(labelled(["a", "b", "a", "b"]), 0.5, groups=[1, 2, 1, 2])


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"real data not found in {SHARED}")
def test_contracts_stay_whole() -> None:
    data = load_data(SHARED / "unfair_tos" / "unfair_tos_en.tsv", "text-classification", columns={"label": "unfair"})
    assert data.table is not None
    train, held = split(data, 0.2, seed=1, groups=data.table.column("company"))
    assert train.table is not None
    assert held.table is not None
    assert not set(train.table.column("company")) & set(held.table.column("company"))
    assert 0.15 < len(held) / len(data) < 0.25


@pytest.mark.parametrize("seed", range(15))
def test_every_one_of_several_labels_gives_its_share(seed: int) -> None:
    """Nearer to it than chance, and none is lost to train."""
    random = Random(seed)
    shares = [random.choice([0.02, 0.05, 0.2, 0.5]) for _ in range(8)]
    rows = [[f"l{i}" for i, share in enumerate(shares) if random.random() < share] for _ in range(600)]
    rows[0] = [f"l{i}" for i in range(8)]
    data = load_data({"text": [str(i) for i in range(600)], "labels": rows}, "text-classification")
    _, held = split(data, 0.2, seed=seed)
    assert abs(len(held) - 120) <= 12  # the rarest labels are given their share first
    whole, part = (Counter(label for numbers in d.targets or () for label in numbers) for d in (data, held))
    for label, count in whole.items():
        # Binomial chance would stray by sqrt(0.16 count), some label by twice as much.
        assert abs(part[label] - 0.2 * count) <= max(1.0, 0.05 * count), (label, count)
        assert part[label] < count
    assert split(data, 0.2, seed=seed)[1].inputs == held.inputs
    again = split(data, 0.95, seed=seed)[0]
    assert {label for numbers in again.targets or () for label in numbers} == set(whole)


@pytest.mark.parametrize("seed", range(5))
def test_numbers_are_held_out_from_all_their_range(seed: int) -> None:
    random = Random(seed)
    values = [random.expovariate(1.0) for _ in range(500)]
    rows = {"text": [str(i) for i in range(500)], "target": values}
    _, held = split(load_data(rows, "text-regression"), 0.2, seed=seed)
    assert len(held) == 100
    edges = sorted(values)[49::50]
    bins = Counter(sum(value > edge for edge in edges) for value in held.targets or ())
    assert set(bins.values()) == {10}


def test_tags_of_words_are_spread() -> None:
    rows = [{"tokens": ["a", "b"], "tags": ["O", "B-RARE" if i % 50 == 0 else "O"]} for i in range(500)]
    _, held = split(ah.load_data(rows, "token-classification"), 0.2)
    rare = 0 if ah.load_data(rows, "token-classification").labels[0] == "B-RARE" else 1
    assert sum(rare in target for target in held.targets or ()) == 2
    assert abs(len(held) - 100) <= 2


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"real data not found in {SHARED}")
def test_a_group_column_is_a_split_by_group() -> None:
    data = load_data(
        SHARED / "unfair_tos" / "unfair_tos_en.tsv",
        "text-classification",
        columns={"text": "text", "labels": "labels", "group": "company"},
    )
    train, held = split(data, 0.2, seed=1)
    assert train.groups is not None
    assert held.groups is not None
    assert not set(train.groups) & set(held.groups)
    assert 0.15 < len(held) / len(data) < 0.25
    assert {label for numbers in held.targets or () for label in numbers} == set(range(9))
