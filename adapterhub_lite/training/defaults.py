"""What a run does where nothing is said: which rows it holds out, and how long and how fast it learns. No torch here.

The numbers are measured; `benchmarks/DEFAULTS.md` has the table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.roles.columns import counted
from adapterhub_lite.data.splits import split
from adapterhub_lite.errors import ConfigError, DataError
from adapterhub_lite.plugins.spec import Situation, StrategySpec
from adapterhub_lite.training.config import BATCH_SIZE, EPOCHS, TrainConfig
from adapterhub_lite.training.order import Order

FEWEST_ROWS, FEWEST_GROUPS = 200, 10
"""Of fewer, none are held out: learning needs each of them more than a score on a handful says."""
SHARE, MOST_HELD_OUT = 0.1, 2000
"""Held out of what is enough: this share, and no more rows than narrow an interval to a point or so."""
SOFT = {"start_penalty": 1e-2}
"""Of a probe that a head of classes starts from. One chosen by cross-validation is often so sure of every row that nothing is
left to learn from, and takes longer to find."""
EVALUATIONS = 5
"""Of a run with rows held out; each is a chance to keep a better step, and a chance to be misled by these few rows."""
MOST_ROWS_FOR_PROBE = 20_000
"""Beyond, a random head learns as well, and fitting one first is a pass over the data for nothing."""
STANDING = {"epochs": EPOCHS, "batch_size": BATCH_SIZE, "start_head": "random"}
"""What holds where nothing is chosen."""
OFF_BY_NONE = ("learning_rate", "eval_every", "patience")
"""Options that are settled when they are given as None: the strategy's own rate, and none of the others."""
FLAGS = {"epochs": "--epochs", "learning_rate": "--lr", "batch_size": "--batch-size", "start_head": "--start-head"}
"""Options that are chosen from the data, by name, and how the command line calls them."""


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


def choose(config: TrainConfig, situation: Situation, spec: StrategySpec) -> tuple[TrainConfig, str | None]:
    """Fill in what was not given, from the data, the task, the base and the strategy.

    Where the number of steps is given, the rest is as it stands in `TrainConfig`, but for when to score.

    Returns:
        The options with everything settled, and a line that says what was chosen and why; None where nothing was.

    Raises:
        ConfigError: the strategy suggests something that is no option, or no value of one.
    """
    given = {name: getattr(config, name) for name in config.model_fields_set}
    given = {name: value for name, value in given.items() if value is not None or name in OFF_BY_NONE}
    chosen: dict[str, Any] = {}
    if config.steps is None:
        suggested = dict(spec.suggest(situation)) if spec.suggest is not None else {}
        unknown = sorted(set(suggested) - set(TrainConfig.model_fields))
        if unknown:
            raise ConfigError(f"strategy '{spec.name}' suggests '{unknown[0]}', which is no option of training")
        chosen = {**general(situation), "learning_rate": spec.learning_rate, **suggested}
        chosen = {name: value for name, value in chosen.items() if name not in given}
        if chosen.get("start_head") == "probe" and situation.predicts == "classes":
            chosen |= {name: value for name, value in SOFT.items() if name not in given}
    settled = TrainConfig(**{**STANDING, **chosen, **given})
    if situation.held_out and "eval_every" not in given:
        order = Order(situation.rows, settled)
        settled = settled.model_copy(update={"eval_every": math.ceil(order.total / EVALUATIONS)})
    return settled, _line(chosen, situation) if chosen else None


def general(situation: Situation) -> dict[str, Any]:
    """What suits strategies that suggest nothing of their own."""
    return {
        "epochs": passes(situation.rows) if situation.has_probe else EPOCHS,
        "batch_size": BATCH_SIZE,
        "start_head": "probe" if situation.has_probe and situation.rows <= MOST_ROWS_FOR_PROBE else "random",
    }


def passes(rows: int) -> float:
    """Epochs: more of them the fewer rows there are, since a handful of steps teaches nothing."""
    return float(min(30, max(3, round(200 / math.sqrt(max(rows, 1))))))


def _line(chosen: Mapping[str, Any], situation: Situation) -> str:
    """What was chosen, and by which numbers."""
    words = {
        "epochs": f"{chosen.get('epochs'):g} epochs" if "epochs" in chosen else "",
        "learning_rate": f"lr {chosen.get('learning_rate'):g}" if "learning_rate" in chosen else "",
        "batch_size": f"batches of {chosen.get('batch_size')}",
        "start_head": "head from the probe" if chosen.get("start_head") == "probe" else "random head",
    }
    about = counted(situation.rows, "row")
    if situation.classes:
        about += f", {counted(situation.classes, 'class', 'classes')}"
    said = [words.get(name, f"{name} {value}") for name, value in chosen.items()]
    options = [FLAGS.get(name, "--" + name.replace("_", "-")) for name in chosen]
    return f"{about}: {', '.join(said)}; {', '.join(options)} {'overrides' if len(options) == 1 else 'override'}"
