"""Scores as tables on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Column, Table

from adapterhub_lite.evaluation.result import BARE, Evaluation
from adapterhub_lite.scoring.detail import Section


def tables_of(result: Evaluation, title: str) -> Iterator[Table]:
    """The metrics, beside those of the bare base where there are some, and the tables of the detail."""
    beside = any(name.startswith(BARE) for name in result.metrics)
    more = [Column(title, justify="right") for title in ("bare base", "95 % interval")] if beside else []
    table = Table(
        "metric",
        Column("value", justify="right"),
        Column("95 % interval", justify="right"),
        *more,
        title=title,
        title_justify="left",
    )
    for name in result.metrics:
        if not name.startswith(BARE):
            cells = [cell for of in [name, BARE + name][: 1 + beside] for cell in _cells(result, of)]
            table.add_row(name, *cells)
    yield table
    for section in result.detail.sections() if result.detail is not None else ():
        yield _shown(section)


def _shown(section: Section) -> Table:
    """A table of a detail: names whole and at the left, numbers at the right."""
    texts = [any(isinstance(row[place], str) for row in section.rows) for place in range(len(section.columns))]
    columns = [
        Column(name, justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text)
        for name, is_text in zip(section.columns, texts, strict=True)
    ]
    table = Table(*columns, title=section.title, title_justify="left")
    for row in section.rows:
        table.add_row(
            *("" if cell is None else f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row)
        )
    return table


def _cells(result: Evaluation, name: str) -> list[str]:
    """A score and its interval; nothing where there is none."""
    if name not in result.metrics:
        return ["", ""]
    ends = result.intervals.get(name)
    return [f"{result.metrics[name]:.4f}", f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else ""]
