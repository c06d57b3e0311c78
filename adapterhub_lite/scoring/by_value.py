"""How far predicted numbers are from the wanted ones: over all, and from the smallest to the largest wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterhub_lite.scoring.detail import Section

Floats = NDArray[np.float64]
RANGES = 5
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SHOWN = 2_000
"""Most points of a chart."""


@dataclass(frozen=True)
class Range:
    """Rows whose wanted number is between two numbers, both included."""

    low: float
    high: float
    n: int
    rmse: float
    mae: float
    bias: float
    """The mean of predicted minus wanted."""
    r2: float | None
    """Against always saying the mean of this range; None where its numbers are all alike."""


@dataclass(frozen=True)
class ValueDetail:
    """The errors of predicted numbers, in the units of the data."""

    all: Range
    ranges: tuple[Range, ...]
    """Fifths of the rows, by what is wanted; rows with one number are in one range."""
    residuals: dict[str, float]
    """Quantiles of predicted minus wanted, by name, such as "q05"."""
    points: tuple[tuple[float, float], ...]
    """Wanted and predicted of some rows, for a chart."""

    def record(self) -> dict[str, Any]:
        """All of it as JSON but the points, which `--predictions` writes in full."""
        return {key: value for key, value in asdict(self).items() if key != "points"}

    def sections(self) -> Sequence[Section]:
        """Errors by range, and quantiles of the residuals."""
        ranges = tuple((f"{r.low:g} to {r.high:g}", r.n, r.rmse, r.mae, r.bias, r.r2) for r in (*self.ranges, self.all))
        names = tuple(f"{quantile:.0%}" for quantile in QUANTILES)
        return (
            Section("errors by what is wanted", ("wanted", "rows", "rmse", "mae", "bias", "r2"), ranges),
            Section("predicted minus wanted", names, (tuple(self.residuals.values()),)),
        )


def of_values(wanted: Floats, said: Floats) -> ValueDetail:
    """The errors of predicted numbers; (n,) each, n at least 1."""
    # A value at the border of two ranges belongs to the lower one.
    borders = np.unique(np.quantile(wanted, np.arange(1, RANGES) / RANGES, method="inverted_cdf"))
    places = np.searchsorted(borders, wanted, side="left")
    ranges = tuple(_range(wanted[places == i], said[places == i]) for i in np.unique(places).tolist())
    quantiles = np.quantile(said - wanted, QUANTILES).tolist()
    residuals = {f"q{quantile * 100:02.0f}": value for quantile, value in zip(QUANTILES, quantiles, strict=True)}
    some = np.unique(np.linspace(0, len(wanted) - 1, min(len(wanted), SHOWN)).astype(np.int64))
    points = tuple(zip(wanted[some].tolist(), said[some].tolist(), strict=True))
    return ValueDetail(_range(wanted, said), ranges, residuals, points)


def _range(wanted: Floats, said: Floats) -> Range:
    error = said - wanted
    spread = float(((wanted - wanted.mean()) ** 2).sum())
    squares = float((error**2).sum())
    return Range(
        low=float(wanted.min()),
        high=float(wanted.max()),
        n=len(wanted),
        rmse=float((error**2).mean()) ** 0.5,
        mae=float(np.abs(error).mean()),
        bias=float(error.mean()),
        r2=1 - squares / spread if spread > 0 else None,
    )
