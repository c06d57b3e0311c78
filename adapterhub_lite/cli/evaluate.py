"""`adapterhub-lite evaluate`."""

from __future__ import annotations

from rich.table import Column, Table

from adapterhub_lite.cli.options import AdapterPath, AsJson, Columns, DataFile, Loading
from adapterhub_lite.cli.output import plain_console, print_json
from adapterhub_lite.cli.rows import checked_data


def evaluate(adapter: AdapterPath, data: DataFile, loading: Loading, columns: Columns, json_: AsJson = False) -> None:
    """Score an adapter on labelled data."""
    dataset = checked_data(adapter, data, columns, require_labels=True)
    from adapterhub_lite.engine import Engine

    loaded = Engine().load_adapter(adapter, base=loading.base, device=loading.device, force=loading.force)
    result = loaded.evaluate(dataset)
    if json_:
        intervals = {name: list(ends) for name, ends in result.intervals.items()}
        print_json({"n": result.n, "metrics": result.metrics, "intervals": intervals, "notes": list(result.notes)})
        return
    table = Table(
        "metric",
        Column("value", justify="right"),
        Column("95 % interval", justify="right"),
        title=f"{adapter} on {data}, {result.n} rows",
        title_justify="left",
    )
    for name, value in result.metrics.items():
        ends = result.intervals.get(name)
        table.add_row(name, f"{value:.4f}", f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else "")
    console = plain_console()
    console.print(table)
    for note in result.notes:
        console.print(f"note: {note}")
