"""A plan as tables for a person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from rich.table import Table

from adapterhub_lite.plan.count import Count
from adapterhub_lite.plan.outcome import Plan, StrategyPlan
from adapterhub_lite.plan.room import CARDS, in_gib
from adapterhub_lite.plan.search import in_words


def lines_of(plan: Plan) -> Iterator[str]:
    """What is chosen for a memory, a line for each strategy, and which strategies do not go with the base."""
    if plan.memory is not None:
        for strategy, own in plan.strategies.items():
            does = "" if own.fits else ", which does not fit"
            yield f"{strategy} in {in_gib(plan.memory)}: {in_words(own.way, plan.batch_size)}{does}"
    for strategy, why in plan.refused.items():
        yield f"{strategy}: {why}"


def tables_of(plan: Plan) -> Iterator[Table]:
    """What a step takes by part, and what fits cards of common sizes."""
    yield _parts(plan)
    yield _cards(plan)


def line_of(plan: Plan) -> str:
    """What was counted, in a line."""
    rows = (
        f"{plan.batch_size} rows of {plan.length} tokens a step"
        if plan.length > 1
        else f"{plan.batch_size} rows a step"
    )
    held = "" if plan.quantization == "none" else f", weights in {plan.quantization}"
    return f"{plan.base}, {plan.task}: {rows} ({plan.rows}), {plan.dtype}{held}"


def _parts(plan: Plan) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    names = [field.name for field in fields(Count)]
    for name in ("strategy", *names, "peak"):
        table.add_column(name, justify="left" if name == "strategy" else "right")
    for strategy, own in plan.strategies.items():
        table.add_row(strategy, *(in_gib(getattr(own.whole, name)) for name in names), in_gib(own.whole.peak))
        if plan.memory is not None:
            table.add_row(
                "  as chosen", *(in_gib(getattr(own.chosen, name)) for name in names), in_gib(own.chosen.peak)
            )
    return table


def _cards(plan: Plan) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("card of")
    for size in CARDS:
        table.add_column(f"{size} GiB")
    for strategy, own in plan.strategies.items():
        table.add_row(strategy, *(_fit(own, size, plan.batch_size) for size in CARDS))
        if own.longest:
            table.add_row("  longest row", *(str(own.longest[size] or "none") for size in CARDS), style="dim")
    return table


def _fit(own: StrategyPlan, size: int, batch: int) -> str:
    """Rows at once that fit, with a mark for what is done for them."""
    way = own.fitting[size]
    if way is None:
        return "no"
    return (
        f"{min(way.micro_batch_size, batch)} rows"
        + " +c" * way.activation_checkpointing
        + " +o" * way.activation_offload
    )
