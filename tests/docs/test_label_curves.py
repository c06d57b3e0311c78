"""The factors in labels under the curves of benchmarks/SCORES.md, against lines whose crossings are known."""

from __future__ import annotations

import math

import pytest

from benchmarks.scores.report import Point, best_of, labels_for, saved_at_fewest, saved_at_most


def line(*points: tuple[int, float]) -> list[Point]:
    return [Point(labels, score, 0.0, 1) for labels, score in points]


def test_a_crossing_is_found_along_a_logarithmic_axis() -> None:
    assert labels_for(0.6, line((10, 0.5), (1000, 0.7)), True) == pytest.approx(100)
    assert labels_for(20.0, line((10, 30.0), (1000, 10.0)), False) == pytest.approx(100)
    assert labels_for(0.5, line((10, 0.5), (1000, 0.7)), True) == 10
    assert math.isinf(labels_for(0.8, line((10, 0.5), (1000, 0.7)), True))


def test_factors_of_a_way_that_needs_ten_times_fewer_labels() -> None:
    way, control = line((10, 0.5), (1000, 0.7)), line((100, 0.5), (1000, 0.6), (10000, 0.7))
    assert saved_at_most(way, control, True) == "10.0"
    assert saved_at_fewest(way, control, True) == "10.0"
    assert saved_at_most(control, way, True) == "0.1"
    assert saved_at_fewest(control, way, True) == "none"


def test_what_is_never_reached_is_said_so() -> None:
    good, bad = line((10, 0.8), (1000, 0.9)), line((10, 0.2), (1000, 0.3))
    assert saved_at_most(good, bad, True) == "more than 100.0"
    assert saved_at_fewest(good, bad, True) == "more than 100.0"
    assert saved_at_most(bad, good, True) == "not reached"


def test_the_control_is_taken_at_its_better_rate() -> None:
    slow, fast = line((10, 15.3), (100, 11.8)), line((10, 15.2), (100, 11.9))
    assert [point.score for point in best_of([slow, fast], higher=False)] == [15.2, 11.8]
    assert [point.score for point in best_of([slow, fast], higher=True)] == [15.3, 11.9]
