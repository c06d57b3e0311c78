"""Which rows a run keeps apart from those it learns from. No torch here."""

from __future__ import annotations

from typing import NamedTuple

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.roles.columns import counted
from adapterhub_lite.data.splits import split
from adapterhub_lite.errors import ConfigError, DataError
from adapterhub_lite.training.config import TrainConfig

FEWEST_ROWS, FEWEST_GROUPS = 200, 10
"""Of fewer, none are held out: learning needs each of them more than a score on a handful says."""
SHARE, MOST_HELD_OUT = 0.1, 2000
"""Held out of what is enough: this share, and no more rows than narrow an interval to a point or so."""


class Parts(NamedTuple):
    """Rows to learn from, and those kept apart from them."""

    train: Dataset
    held_out: Dataset | None
    share: float
    """That was held out; 0 where nothing was."""
    line: str | None = None
    """What to say of it, where it was not asked for."""


def held_out_of(data: Dataset, share: float | None, config: TrainConfig) -> Parts:
    """Hold out a share of the rows, by class and group; where none is given, as much as the data can spare.

    Args:
        data: All rows.
        share: As given; 0 holds out nothing, and None leaves it to the data.
        config: Its seed draws the rows.

    Raises:
        ConfigError: no share of the rows, or nothing is held out and `config` scores as it goes.
        DataError: a share was asked for, and nothing can be held out.
    """
    if share is not None:
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            raise ConfigError(f"hold_out {share} is no share of the rows; give a number from 0 up to 1, such as 0.2")
        config.check_held_out(share > 0)
        return Parts(*split(data, float(share), seed=config.seed), share) if share else Parts(data, None, 0)
    rows, reason = counted(len(data), "row"), None
    if len(data) < FEWEST_ROWS:
        reason = rows
    elif data.groups is not None and len(set(data.groups)) < FEWEST_GROUPS:
        reason = f"{rows} of {counted(len(set(data.groups)), 'group')}"
    if reason is None:
        try:
            share = min(SHARE, MOST_HELD_OUT / len(data))
            train, kept = split(data, share, seed=config.seed)
        except DataError:
            reason = f"{rows}, of which none can be spared"
        else:
            said = f"{len(kept)} of {rows} are held out to score on, and not learnt from; --hold-out 0 learns from all"
            return Parts(train, kept, share, said)
    line = (
        f"{reason}: cannot know how good this is, because all are learnt from; score on others with --eval-data, or on a "
        "share of these with --hold-out 0.2"
    )
    config.check_held_out(False)
    return Parts(data, None, 0, line)
