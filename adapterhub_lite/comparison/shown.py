"""A comparison as a person reads it: a table, how it came about, and what should be known of it. No torch here."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from adapterhub_lite.names import human_size

if TYPE_CHECKING:
    from adapterhub_lite.comparison.outcome import Comparison, Interval, Row


def table_of(compared: Comparison) -> Table:
    """The rows as a table for a terminal of 80 columns, the best first; intervals are of 95 %."""
    scored = [f"held-out {compared.metric}", "to the winner"] if compared.held_out else []
    table = Table("contender", "chose", *scored, "cost", "", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for row in compared.rows:
        cells = [row.name.replace(", ", ",\n "), _number(row.choosing_score)]
        if compared.held_out:
            cells += [_with_ends(row.score, row.interval)]
            cells += ["" if row.name == compared.winner else _with_ends(row.difference, row.difference_interval, "+")]
        cells += [_cost(row), _remark(compared, row)]
        table.add_row(*cells, style="bold" if row.name == compared.winner else "")
    return table


def summary_of(compared: Comparison) -> str:
    """How they were compared, in a sentence."""
    on = f"{compared.held_out} held-out rows" if compared.held_out else "no held-out rows"
    return (
        f"learnt from {compared.learnt_from} rows, chosen {compared.chosen_on}, scored on {on}; {compared.steps:,} training "
        f"steps, where every setting in full would take {compared.steps_of_all:,}"
    )


def notes_on(comparison: Comparison) -> list[str]:
    """What a reader of the table should know: ties, a baseline that is as good, failures, and what the scores are worth."""
    c, notes = comparison, []
    winner, best = c[c.winner], c[c.best_adapter]
    tied = [row.name for row in c.rows if row.tied and row.name != c.winner]
    if tied:
        notes.append(
            f"tie: {c.winner} and {_listed(tied)} cannot be told apart by the rows that chose; of these {c.winner} is cheapest"
        )
    if winner.strategy is None:
        scored = ""
        if c.held_out:
            scored = f": {_with_ends(best.difference, best.difference_interval, '+', ', ')} on the held-out rows"
        verdict = "AS GOOD: the base adds nothing on this data that could not be chance"
        if not best.tied:
            verdict = "BETTER: the base is worth less than nothing on this data"
        notes.append(f"{c.winner.upper()} IS {verdict}. Saved is the best adapter, {best.name}{scored}")
    better = [
        row.name
        for row in c.rows
        if row.apart and row.difference is not None and (row.difference > 0) == c.higher_is_better
    ]
    if better:
        notes.append(
            f"on the held-out rows {_listed(better)} did better than the winner; to choose by that would make these scores "
            "optimistic: decide on new rows"
        )
    notes += [f"{row.name} {row.out}" for row in c.rows if row.failed]
    notes += [
        f"{row.name} is left out: {row.out}"
        for row in c.rows
        if row.out and row.choosing_score is None and not row.failed
    ]
    return notes


def printed(compared: Comparison) -> str:
    """All that is to be said, as text."""
    file = io.StringIO()
    console = Console(file=file, width=80, markup=False, emoji=False)
    console.print(table_of(compared))
    for line in (summary_of(compared), *compared.notes):
        console.print(line, soft_wrap=True)
    return file.getvalue()


def _remark(compared: Comparison, row: Row) -> str:
    if row.out is not None:
        return "failed" if row.failed else "out"
    remarks = {"winner": row.name == compared.winner, "tie": row.tied, "saved": row.name == compared.best_adapter}
    return "\n".join(name for name, holds in remarks.items() if holds)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.3f}" if abs(value) < 100 else f"{value:{sign}.4g}"


def _with_ends(value: float | None, ends: Interval | None, sign: str = "", between: str = "\n") -> str:
    """A score or a difference, and its interval behind it."""
    shown = [_number(value, sign)]
    if ends is not None:
        shown.append(f"{_number(ends[0], sign)} to {_number(ends[1], sign)}")
    return between.join(shown)


def _cost(row: Row) -> str:
    if row.trained is None or row.seconds is None:
        return ""
    weights = f"{row.trained:,}" if row.trained < 10**5 else f"{row.trained / 10**6:.2f} M"
    seconds = f"{row.seconds:.1f}" if row.seconds < 100 else f"{row.seconds:.0f}"
    return f"{seconds} s, {human_size(row.size or 0)}\n{weights} weights"
