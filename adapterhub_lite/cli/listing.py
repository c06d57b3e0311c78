"""`adapterhub-lite strategies` and `adapterhub-lite plugins list`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from adapterhub_lite.cli.options import AsJson, print_json

plugins_app = typer.Typer(help="See what plug-ins are installed.", no_args_is_help=True)
Strict = Annotated[bool, typer.Option("--strict", help="Fail when a plug-in failed.")]


@plugins_app.callback()
def plugins() -> None:
    """See what plug-ins are installed."""


@plugins_app.command("list")
def plugins_list(json_: AsJson = False, strict: Strict = False) -> None:
    """List every plug-in: loaded, failed or disabled, and why."""
    from adapterhub_lite.plugins import Plugins

    records = Plugins(strict=strict).records
    if json_:
        print_json({"plugins": [asdict(record) for record in records]})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in ("plug-in", "distribution", "version", "state", "strategies or reason"):
        table.add_column(column)
    for record in records:
        detail = ", ".join(record.strategies) if record.error is None else f"{record.stage or ''}: {record.error}"
        table.add_row(record.name, record.dist, record.version, record.state, detail.removeprefix(": "))
    Console().print(
        table if records else "no plug-ins are installed; pip install adapterhub-lite brings the built-in ones"
    )


def strategies(json_: AsJson = False) -> None:
    """List the strategies with their options."""
    from adapterhub_lite.plugins import Plugins

    provided = sorted(Plugins().strategies, key=lambda each: each.spec.name)
    if json_:
        print_json(
            {
                "strategies": [
                    {
                        "name": p.spec.name,
                        "summary": p.spec.summary,
                        "plugin": p.plugin,
                        "dist": p.dist,
                        "version": p.version,
                        "traits": {**asdict(p.spec.traits), "modalities": sorted(p.spec.traits.modalities)},
                        "learning_rate": p.spec.learning_rate,
                        "options": p.spec.config.model_json_schema()["properties"],
                    }
                    for p in provided
                ]
            }
        )
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    if not provided:
        console.print("no strategies are installed; pip install adapterhub-lite brings the built-in ones")
    for p in provided:
        console.print(f"[bold]{p.spec.name}[/bold]  {escape(p.spec.summary)}  [dim]{p.dist} {p.version}[/dim]")
        for name, field in p.spec.config.model_fields.items():
            console.print(
                f"    {name}={field.get_default()}  [dim]{escape(field.description or '')}[/dim]", highlight=False
            )
