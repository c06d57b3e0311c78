"""Series made ready for a base, against numpy and against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from adapterhub_series.values import Scales, fill, fit, measure, prepare

NAN = np.nan


def _series(random: np.random.Generator, length: int, channels: int = 3, missing: float = 0.0) -> np.ndarray:
    values = random.normal(size=(length, channels)) * [1, 10, 0.1][:channels] + [0, 500, -3][:channels]
    values[random.random(values.shape) < missing] = NAN
    return values.astype(np.float32)


def _unit(channels: int = 3) -> Scales:
    return Scales(np.zeros(channels), np.ones(channels))


def test_scales_are_those_of_all_steps_together() -> None:
    random = np.random.default_rng(0)
    series = [_series(random, length, missing=0.1) for length in (5, 40, 1, 17)]
    whole = np.concatenate(series).astype(np.float64)
    scales = measure(series)
    np.testing.assert_allclose(scales.mean, np.nanmean(whole, axis=0), rtol=1e-12)
    np.testing.assert_allclose(scales.spread, np.nanstd(whole, axis=0), rtol=1e-12)


def test_scales_of_many_series_keep_their_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of squares would lose a spread of 1 around 10,000 to rounding in the last digits."""
    monkeypatch.setattr("adapterhub_series.values.CHUNK", 3)
    random = np.random.default_rng(1)
    series = [(random.normal(size=(8, 1)) + 1e4).astype(np.float32) for _ in range(50)]
    whole = np.concatenate(series).astype(np.float64)
    scales = measure(series)
    np.testing.assert_allclose(scales.mean, whole.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(scales.spread, whole.std(axis=0), rtol=1e-10)


def test_a_channel_that_says_nothing_has_a_spread_of_one() -> None:
    values = np.array([[518.67, NAN, 1], [518.67, NAN, 3]], dtype=np.float32)
    scales = measure([values])
    np.testing.assert_allclose(scales.mean, [np.float32(518.67), 0, 2])
    np.testing.assert_allclose(scales.spread, [1, 1, 1])
    assert measure([np.array([[2.0], [6.0]], np.float32)]).spread == 2  # and any other has its own


def test_missing_values_lie_on_the_line_between_their_neighbours() -> None:
    column = np.array([NAN, 2, NAN, NAN, 8, NAN])
    values = np.stack([column, np.full(6, NAN), np.arange(6.0)], axis=1)[None]
    filled = fill(values, ~np.isnan(values), np.array([0, 7, 0]))
    np.testing.assert_allclose(filled[0, :, 0], [2, 2, 4, 6, 8, 8])
    np.testing.assert_allclose(filled[0, :, 1], 7)
    np.testing.assert_allclose(filled[0, :, 2], np.arange(6.0))


@pytest.mark.parametrize(("length", "steps"), [(150, 128), (24, 128), (7, 32), (2, 5), (100, 7)])
def test_resampling_is_numpys_interpolation(length: int, steps: int) -> None:
    values = np.random.default_rng(2).normal(size=(3, length, 2))
    fitted, there = fit(values, np.ones_like(values, dtype=bool), steps, "resample")
    assert there.all()
    places = np.linspace(0, length - 1, steps)
    for row in range(3):
        for channel in range(2):
            wanted = np.interp(places, np.arange(length), values[row, :, channel])
            np.testing.assert_allclose(fitted[row, :, channel], wanted, rtol=0, atol=1e-12)


def test_one_step_is_that_step_everywhere() -> None:
    fitted, _ = fit(np.array([[[3.0]]]), np.array([[[True]]]), 4, "resample")
    np.testing.assert_array_equal(fitted, np.full((1, 4, 1), 3.0))


def test_what_was_there_is_resampled_too() -> None:
    """A value between one that was there and one that was not is made up."""
    there = np.array([True, True, False, True])[None, :, None]
    values = np.arange(4.0)[None, :, None]
    _, fitted = fit(values, there, 7, "resample")  # places 0, 0.5, 1, 1.5, 2, 2.5, 3
    assert fitted[0, :, 0].tolist() == [True, True, True, False, False, False, True]


def test_padding_leads_with_the_first_step() -> None:
    values, there = np.array([[[5.0], [6.0]]]), np.ones((1, 2, 1), bool)
    for how in ("pad", "last"):
        fitted, seen = fit(values, there, 5, how)
        assert fitted[0, :, 0].tolist() == [5, 5, 5, 5, 6]
        assert seen[0, :, 0].tolist() == [False, False, False, True, True]


def test_longer_ones_lose_their_start_or_are_squeezed() -> None:
    values, there = np.arange(9.0)[None, :, None], np.ones((1, 9, 1), bool)
    assert fit(values, there, 3, "last")[0][0, :, 0].tolist() == [6, 7, 8]
    assert fit(values, there, 3, "pad")[0][0, :, 0].tolist() == [0, 4, 8]


def test_by_channel() -> None:
    random = np.random.default_rng(3)
    series = [_series(random, 20) for _ in range(4)]
    scales = measure(series)
    prepared, _ = prepare(series, scales, steps=20, resample="resample", normalize="channel")
    wanted = (np.stack(series).astype(np.float64) - scales.mean) / scales.spread
    np.testing.assert_allclose(prepared, wanted, atol=1e-6)
    together = prepared.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(together.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(together.std(axis=0), 1, atol=1e-6)


def test_each_by_itself() -> None:
    random = np.random.default_rng(4)
    series = [_series(random, 30) for _ in range(3)]
    series[1][:, 2] = 7
    prepared, _ = prepare(series, _unit(), steps=30, resample="resample", normalize="series")
    for raw, ready in zip(series, prepared, strict=True):
        whole = raw.astype(np.float64)
        spread = whole.std(axis=0)
        np.testing.assert_allclose(ready, (whole - whole.mean(axis=0)) / np.where(spread == 0, 1, spread), atol=1e-5)


def test_each_by_itself_counts_only_what_was_there() -> None:
    values = np.array([[0, NAN], [NAN, NAN], [4, NAN]], np.float32)
    prepared, observed = prepare(
        [values], Scales(np.array([0, 9.0]), np.ones(2)), steps=3, resample="pad", normalize="series"
    )
    np.testing.assert_allclose(prepared[0, :, 0], [-1, 0, 1])  # mean 2, spread 2
    np.testing.assert_allclose(prepared[0, :, 1], 0)
    assert observed[0].tolist() == [[True, False], [False, False], [True, False]]


def test_as_they_are() -> None:
    series = [_series(np.random.default_rng(5), 6)]
    prepared, _ = prepare(series, measure(series), steps=6, resample="resample", normalize="none")
    np.testing.assert_array_equal(prepared[0], series[0])


@pytest.mark.parametrize("normalize", ["channel", "series", "none"])
@pytest.mark.parametrize("resample", ["resample", "pad", "last"])
def test_a_series_does_not_depend_on_its_neighbours(normalize: str, resample: str) -> None:
    random = np.random.default_rng(6)
    series = [_series(random, length, missing=0.2) for length in (12, 5, 30, 12, 1, 5)]
    scales = measure(series)
    how = {"steps": 12, "resample": resample, "normalize": normalize}
    values, observed = prepare(series, scales, **how)
    for row, raw in enumerate(series):
        alone, observed_alone = prepare([raw], scales, **how)
        np.testing.assert_array_equal(alone[0], values[row])
        np.testing.assert_array_equal(observed_alone[0], observed[row])
    assert np.isfinite(values).all()


def test_the_series_given_are_left_alone() -> None:
    series = _series(np.random.default_rng(7), 10, missing=0.3)
    before = series.copy()
    prepare([series], measure([series]), steps=10, resample="resample", normalize="series")
    np.testing.assert_array_equal(series, before)
