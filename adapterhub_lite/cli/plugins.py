"""What is installed: `strategies`, `tasks` and `plugins list`; and `plugins new`, the start of a new one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from adapterhub_lite.cli.check import plugins_check
from adapterhub_lite.cli.options import AsJson
from adapterhub_lite.cli.output import print_json

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from adapterhub_lite.plugins.find import Record

plugins_app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich")


@plugins_app.callback()
def plugins() -> None:
    """See what plug-ins are installed."""


plugins_app.command("check")(plugins_check)


@plugins_app.command("list")
def plugins_list(
    json_: AsJson = False,
    strict: Annotated[bool, typer.Option("--strict", metavar="", help="Fail when a plug-in failed.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.1, metavar="SECONDS", help="Load each in a process of its own, given so long: finds one that hangs."
        ),
    ] = None,
) -> None:
    """List every plug-in: loaded, failed or disabled, and why."""
    from adapterhub_lite.plugins.manager import Plugins, is_on

    if timeout is None:
        plugins = Plugins(strict=False)
    else:
        from adapterhub_lite.cli.own_process import OwnProcesses

        plugins = OwnProcesses(timeout)
    if json_:
        print_json({"plugins": [asdict(record) for record in plugins.records], "notes": plugins.notes})
    else:
        _show_plugins(plugins.records, plugins.notes)
    if strict or is_on("ADAPTERHUB_STRICT"):
        plugins.raise_failures()


def _show_plugins(records: list[Record], notes: list[str]) -> None:
    console = Console()
    table = Table("plug-in", "distribution", "version", "state", "strategies, tasks or reason")
    for record in records:
        offers = (*record.strategies, *(f"task {name}" for name in record.tasks))
        detail = ", ".join(offers) if record.error is None else f"{record.stage or ''}: {record.error}"
        row = (record.name, record.dist, record.version, record.state, detail.removeprefix(": "))
        table.add_row(*(escape(cell) for cell in row))
    console.print(
        table if records else "no plug-ins are installed; pip install adapterhub-lite brings the built-in ones"
    )
    for note in notes:
        console.print(f"note: {note}", markup=False)


@plugins_app.command("new")
def plugins_new(
    name: Annotated[str, typer.Argument(help="Name of the strategy: lower case letters, digits and '_'.")],
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder to make [default: adapterhub-lite-NAME].")
    ] = None,
) -> None:
    """Write a distribution with a working strategy, its tests and README, to begin from."""
    from adapterhub_lite.plugins.manager import Plugins
    from adapterhub_lite.scaffold import check_name, write_distribution

    check_name(name, Plugins())
    target = Path(out if out is not None else f"adapterhub-lite-{name.replace('_', '-')}")
    files = write_distribution(name, target)
    typer.echo(f"wrote {target}:")
    for file in files:
        typer.echo(f"    {file}")
    typer.echo(
        f"next: cd {shlex.quote(str(target))} && pip install -e '.[test]' && adapterhub-lite plugins check {name} && pytest"
    )


def strategies(json_: AsJson = False) -> None:
    """List the strategies with their options."""
    from adapterhub_lite.plugins.manager import Plugins

    provided = sorted(Plugins().strategies, key=lambda strategy: strategy.spec.name)
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
    console = Console()
    if not provided:
        console.print("no strategies are installed; pip install adapterhub-lite brings the built-in ones")
    for p in provided:
        console.print(f"[bold]{p.spec.name}[/bold]  {escape(p.spec.summary)}  [dim]{p.dist} {p.version}[/dim]")
        _show_options(console, p.spec.config.model_fields)


def tasks(json_: AsJson = False) -> None:
    """List the tasks with the roles of their columns and their options."""
    from adapterhub_lite.plugins.manager import Plugins
    from adapterhub_lite.tasks.catalog import task_shelf

    provided = task_shelf(Plugins()).offered
    if json_:
        print_json(
            {
                "tasks": [
                    {
                        "name": p.spec.name,
                        "summary": p.spec.summary,
                        "modality": p.spec.modality,
                        "plugin": p.plugin,
                        "dist": p.dist,
                        "roles": list(p.spec.roles),
                        "options": p.spec.options.model_json_schema().get("properties", {}),
                    }
                    for p in provided
                ]
            }
        )
        return
    console = Console()
    for p in provided:
        console.print(f"[bold]{p.spec.name}[/bold]  {escape(p.spec.summary)}  [dim]{p.dist}[/dim]")
        console.print(f"    columns: {', '.join(p.spec.roles)}", highlight=False)
        _show_options(console, p.spec.options.model_fields)


def _show_options(console: Console, fields: Mapping[str, FieldInfo]) -> None:
    """A line an option: name, default and description."""
    for name, field in fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        console.print(f"    {name}={default}  [dim]{escape(field.description or '')}[/dim]", highlight=False)
