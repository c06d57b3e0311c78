"""`adapterhub-lite evaluate`."""

from __future__ import annotations

from adapterhub_lite.cli.columns import Columns
from adapterhub_lite.cli.options import AdapterPath, AsJson, DataFile, Loading, print_json


def evaluate(adapter: AdapterPath, data: DataFile, loading: Loading, columns: Columns, json_: AsJson = False) -> None:
    """Score an adapter on labelled data."""
    from adapterhub_lite.cli.loading import checked_data, open_engine

    dataset = checked_data(adapter, data, columns.by_role(), require_labels=True)
    loaded = open_engine().load_adapter(adapter, base=loading.base, device=loading.device, force=loading.force)
    result = loaded.evaluate(dataset)
    if json_:
        intervals = {name: list(ends) for name, ends in result.intervals.items()}
        print_json({"n": result.n, "metrics": result.metrics, "intervals": intervals, "notes": list(result.notes)})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{adapter} on {data}, {result.n} rows", title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    for name, value in result.metrics.items():
        ends = result.intervals.get(name)
        table.add_row(name, f"{value:.4f}", f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else "")
    console = Console()
    console.print(table)
    for note in result.notes:
        console.print(f"note: {note}")
