"""The interval of a share."""

from __future__ import annotations

from statistics import NormalDist

QUANTILE = NormalDist().inv_cdf(0.975)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927), which is right for shares near 0 and 1 and for small n."""
    share, z2 = hits / n, QUANTILE**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = QUANTILE / (1 + z2 / n) * (share * (1 - share) / n + z2 / (4 * n * n)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def standard_error(share: float, n: int) -> float:
    """Of a share of n: that of a binomial with one more success and one more failure, since what was always right may err."""
    smoothed = (share * n + 1) / (n + 2)
    return float((smoothed * (1 - smoothed) / n) ** 0.5)
