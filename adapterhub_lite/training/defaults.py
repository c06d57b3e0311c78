"""How long and how fast a run learns where nothing is said, and what its head starts from. No torch here.

The numbers are measured; `benchmarks/DEFAULTS.md` has the table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from adapterhub_lite.data.roles.columns import counted
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.plugins.spec import Situation, StrategySpec
from adapterhub_lite.training.config import BATCH_SIZE, EPOCHS, TrainConfig
from adapterhub_lite.training.order import Order

SOFT, SOFT_FOR_SERIES = 1.0, 1e-2
"""Penalty of a probe that a head of classes starts from. One chosen by cross-validation is often so sure of every row that
nothing is left to learn from, and takes longer to find; a soft one points the same way."""
FEWEST_STEPS, MOST_EPOCHS = 60, 40
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
        chosen = {**general(situation, given.get("start_head")), "learning_rate": spec.learning_rate, **suggested}
        chosen = {name: value for name, value in chosen.items() if name not in given}
        of_probe = chosen.get("start_head") == "probe" and situation.predicts == "classes"
        if of_probe and "start_penalty" not in given:
            chosen.setdefault("start_penalty", SOFT_FOR_SERIES if situation.modality == "series" else SOFT)
    settled = TrainConfig(**{**STANDING, **chosen, **given})
    if situation.held_out and "eval_every" not in given:
        order = Order(situation.rows, settled)
        settled = settled.model_copy(update={"eval_every": math.ceil(order.total / EVALUATIONS)})
        if "keep" not in given:
            settled = settled.model_copy(update={"keep": "last-good"})
    return settled, _line(chosen, situation) if chosen else None


def general(situation: Situation, start_head: str | None) -> dict[str, Any]:
    """What suits strategies that suggest nothing of their own, with the head's start that was given, if it was."""
    if start_head is None:
        start_head = "probe" if situation.has_probe and situation.rows <= MOST_ROWS_FOR_PROBE else "random"
    epochs = passes(situation, start_head) if situation.has_probe else EPOCHS
    return {"epochs": epochs, "batch_size": BATCH_SIZE, "start_head": start_head}


def passes(situation: Situation, start_head: str) -> float:
    """Epochs: the more, the fewer rows there are, since a handful of steps teaches nothing.

    More of them for a random head, and for series, whose bases are small and slow to move.
    """
    rows = max(situation.rows, 1)
    times = (1.0 if start_head == "probe" else 2.5) * (1.5 if situation.modality == "series" else 1.0)
    wanted = max(90 / math.sqrt(rows), FEWEST_STEPS / math.ceil(rows / BATCH_SIZE))
    return float(min(MOST_EPOCHS, max(EPOCHS, round(times * wanted))))


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
