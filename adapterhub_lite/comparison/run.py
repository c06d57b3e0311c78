"""A comparison from beginning to end: who takes part, the contest, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.base.loading import Base
from adapterhub_lite.comparison.asked import Asked
from adapterhub_lite.comparison.contenders import contenders
from adapterhub_lite.comparison.contest import Contest
from adapterhub_lite.comparison.entry import Entry
from adapterhub_lite.comparison.folds import turns
from adapterhub_lite.comparison.judge import Difference, Judge
from adapterhub_lite.comparison.outcome import Comparison, Row
from adapterhub_lite.comparison.shown import notes_on
from adapterhub_lite.comparison.workshop import Workshop
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError, NotSupportedError
from adapterhub_lite.names import check_choice
from adapterhub_lite.storage import DataRecord
from adapterhub_lite.training.config import TrainConfig, world_size
from adapterhub_lite.training.features import shared_features
from adapterhub_lite.training.fit import say_notes

Choice = Literal["validation", "held-out"]


def compare(
    engine: Engine,
    base: Base,
    data: Dataset,
    held_out: Dataset | None,
    asked: Asked,
    *,
    task_options: Mapping[str, Any],
    choose_on: Choice = "validation",
    minutes: float = 60.0,
) -> Comparison:
    """Compare what is asked for on rows to learn from and rows to score on; see `adapterhub_lite.comparison.engine`."""
    check_choice("way to choose", choose_on, get_args(Choice))
    if world_size() > 1:
        raise ConfigError("a comparison runs in one process, and WORLD_SIZE says there are several; start it by itself")
    if choose_on == "held-out" and held_out is None:
        raise ConfigError("to choose on held-out rows takes some; give --eval-data or --hold-out")
    seed = (asked.config or TrainConfig()).seed
    parts = turns(data, seed) if choose_on == "validation" or held_out is None else [(data, held_out)]
    say_notes(data, held_out, engine.progress)
    with base.lock, shared_features(base):
        workshop = Workshop(engine, base, data, task_options, seed)
        taking_part, left_out = contenders(engine, base, data, workshop.task, asked, task_options)
        if not any(contender.run for contender in taking_part):
            reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
            raise NotSupportedError(f"no strategy can take part: {reasons}")
        for part in (data, *([held_out] if held_out is not None else [])):
            for note in workshop.encoded(part).notes:
                engine.progress.say(f"note, {part.source}: {note}")
            workshop.share_features(part, taking_part)
        contest = Contest(
            workshop, [Entry(contender) for contender in taking_part], parts, minutes, engine.progress.say
        )
        contest.choose()
        winner, best = contest.finish(data, held_out)
        comparison = _told(contest, workshop, winner, best, left_out, data, held_out, choose_on)
        adapter = workshop.adapter(best.last) if best.last is not None else None
        assert adapter is not None
        _recorded(adapter, comparison, data, held_out)
    return replace(comparison, adapter=adapter)


def _told(
    contest: Contest, workshop: Workshop, winner: Entry, best: Entry, left_out: Mapping[str, str], data: Dataset,
    held_out: Dataset | None, choose_on: Choice,
) -> Comparison:  # fmt: skip
    judge = contest.judge
    differences: dict[str, Difference] = {}
    if held_out is not None:
        judge = workshop.judge([held_out])
        said = {entry.name: entry.last.said for entry in contest.running() if entry.last is not None}
        differences = judge.differences(said, winner.name)
    rows = [_row(entry, judge, differences.get(entry.name)) for entry in contest.entries]
    rows += [Row(name, name, {}, {}, out=why) for name, why in left_out.items()]
    rows.sort(key=lambda row: _place(row, judge, scored=held_out is not None))
    taken, of_all = contest.steps()
    parts = len(contest.turns)
    on = "by the rows that score them"
    if choose_on == "validation" or held_out is None:
        on = f"by {len(contest.judge)} of them, held out " + (f"in {parts} parts" if parts > 1 else "once")
    comparison = Comparison(
        workshop.task.name, judge.metric, judge.higher_is_better, rows, winner.name, best.name, len(data), on,
        0 if held_out is None else len(judge), [], taken, of_all,
    )  # fmt: skip
    notes = notes_on(comparison)
    if held_out is None:
        notes.append("the scores are on the rows that chose, and optimistic; hold rows out, as with --hold-out 0.2")
    elif choose_on == "held-out":
        notes.append(
            "the rows that score the winner chose it, so that its score is optimistic; see --choose-on validation"
        )
    return replace(comparison, notes=notes)


def _row(entry: Entry, judge: Judge, difference: Difference | None) -> Row:
    contender, last = entry.contender, entry.last
    newest = entry.results[-1] if entry.results else None
    row = Row(
        entry.name, contender.family if contender.run is not None else None, contender.settings, contender.options,
        choosing_score=entry.choosing_score, tied=bool(entry.choosing and not entry.choosing.apart) and entry.out is None,
        out=entry.out, failed=entry.failed, known=bool(entry.results) and all(result.reused for result in entry.results),
    )  # fmt: skip
    if newest is not None:
        row = replace(row, seconds=newest.seconds, trained=newest.trained, size=newest.size)
    if difference is None or last is None:
        return row
    return replace(
        row, score=judge.score(last.said), interval=judge.interval(last.said), difference=difference.value,
        difference_interval=(difference.low, difference.high), apart=difference.apart,
    )  # fmt: skip


def _place(row: Row, judge: Judge, *, scored: bool) -> tuple[bool, bool, float]:
    """Where a row stands in the table: the best first, those that did not go on behind them."""
    value = row.score if scored else row.choosing_score
    known = value if value is not None else row.choosing_score
    return row.out is not None, known is None, (known or 0.0) * (-1 if judge.higher_is_better else 1)


def _recorded(adapter: Adapter, comparison: Comparison, data: Dataset, held_out: Dataset | None) -> None:
    """Write into an adapter how it was chosen, and how it scores."""
    adapter.data = DataRecord(source=data.source, sha256=data.sha256, rows=len(data))
    if held_out is not None:
        adapter.scored = adapter.evaluate(held_out)
        adapter.metrics = adapter.scored.record()
    adapter.training["comparison"] = comparison.record()
