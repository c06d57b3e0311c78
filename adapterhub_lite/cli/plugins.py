"""What is installed: `strategies`, `tasks` and `plugins list`; and `plugins new`, the start of a new one."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from adapterhub_lite.cli.check import plugins_check
from adapterhub_lite.cli.options import AsJson
from adapterhub_lite.cli.output import print_json
from adapterhub_lite.names import check_choice
from adapterhub_lite.plugins.find import Plugin, Record
from adapterhub_lite.plugins.manager import Plugins, is_on
from adapterhub_lite.plugins.spec import Spec

LOAD_ONE = """
import json, sys
from dataclasses import asdict
from adapterhub_lite.names import check_choice
from adapterhub_lite.plugins.find import find
from adapterhub_lite.plugins.manager import Plugins
plugin = next(plugin for plugin in find()[0] if plugin.name == sys.argv[1])
record = asdict(Plugins(enabled=False, strict=False).admit(plugin))
sys.__stdout__.write("\\n" + json.dumps(record))
"""

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
    plugins = Plugins(strict=False) if timeout is None else OwnProcesses(timeout)
    if json_:
        print_json({"plugins": [asdict(record) for record in plugins.records], "notes": plugins.notes})
    else:
        console = Console()
        table = Table("plug-in", "distribution", "version", "state", "strategies, tasks or reason")
        for record in plugins.records:
            offers = (*record.strategies, *(f"task {name}" for name in record.tasks))
            detail = ", ".join(offers) if record.error is None else f"{record.stage or ''}: {record.error}"
            row = (record.name, record.dist, record.version, record.state, detail.removeprefix(": "))
            table.add_row(*(escape(cell) for cell in row))
        nothing = "no plug-ins are installed; pip install adapterhub-lite brings the built-in ones"
        console.print(table if plugins.records else nothing)
        for note in plugins.notes:
            console.print(f"note: {note}", markup=False)
    if strict or is_on("ADAPTERHUB_STRICT"):
        plugins.raise_failures()


@plugins_app.command("new")
def plugins_new(
    name: Annotated[str, typer.Argument(help="Its name: lower case letters, digits and '_', in a task's '-'.")],
    kind: Annotated[str, typer.Option(metavar="KIND", help="What it is: strategy, task or observer.")] = "strategy",
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder to make [default: adapterhub-lite-NAME].")
    ] = None,
) -> None:
    """Write a distribution with a working strategy, task or observer, its tests and README, to begin from."""
    from adapterhub_lite.scaffold import KINDS, check_name, write_distribution

    check_choice("kind of plug-in", kind, KINDS)
    check_name(name, Plugins(), kind)
    target = Path(out if out is not None else f"adapterhub-lite-{name.replace('_', '-')}")
    files = write_distribution(name, target, kind)
    typer.echo(f"wrote {target}:")
    for file in files:
        typer.echo(f"    {file}")
    typer.echo(
        f"next: cd {shlex.quote(str(target))} && pip install -e '.[test]' && adapterhub-lite plugins check {name} && pytest"
    )


def strategies(json_: AsJson = False) -> None:
    """List the strategies with their options."""
    offered = sorted(Plugins().strategies, key=lambda strategy: strategy.spec.name)
    if json_:
        described = [
            {
                "name": strategy.spec.name,
                "summary": strategy.spec.summary,
                "plugin": strategy.plugin,
                "dist": strategy.dist,
                "version": strategy.version,
                "traits": {**asdict(strategy.spec.traits), "modalities": sorted(strategy.spec.traits.modalities)},
                "learning_rate": strategy.spec.learning_rate,
                "options": strategy.spec.config.model_json_schema()["properties"],
            }
            for strategy in offered
        ]
        print_json({"strategies": described})
        return
    if not offered:
        typer.echo("no strategies are installed; pip install adapterhub-lite brings the built-in ones")
    for strategy in offered:
        _show(strategy.spec, f"{strategy.dist} {strategy.version}")


def tasks(json_: AsJson = False) -> None:
    """List the tasks with the roles of their columns and their options."""
    from adapterhub_lite.tasks.catalog import Catalog

    offered = Catalog(Plugins()).offered
    if json_:
        described = [
            {
                "name": task.spec.name,
                "summary": task.spec.summary,
                "modality": task.spec.modality,
                "plugin": task.plugin,
                "dist": task.dist,
                "roles": list(task.spec.roles),
                "options": task.spec.options.model_json_schema().get("properties", {}),
            }
            for task in offered
        ]
        print_json({"tasks": described})
        return
    if not offered:
        typer.echo("no tasks are installed; pip install adapterhub-lite brings the built-in ones")
    for task in offered:
        _show(task.spec, task.dist, f"    columns: {', '.join(task.spec.roles)}")


def _show(spec: Spec, source: str, *lines: str) -> None:
    """Print a strategy or a task, where it comes from, more about it, and a line an option with default and help."""
    console = Console()
    console.print(f"[bold]{spec.name}[/bold]  {escape(spec.summary)}  [dim]{source}[/dim]")
    for line in lines:
        console.print(line, highlight=False)
    for name, field in spec.settings.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        console.print(f"    {name}={default}  [dim]{escape(field.description or '')}[/dim]", highlight=False)


class OwnProcesses(Plugins):
    """The records of plug-ins, each loaded in a process of its own, to find one that hangs or takes the program down.

    Args:
        seconds: What one of them may take, the start of its process (a quarter of a second) included.
    """

    def __init__(self, seconds: float):
        self._seconds = seconds
        super().__init__(strict=False)

    def admit(self, plugin: Plugin, module: ModuleType | None = None) -> Record:
        """Load one plug-in in another process and record what became of it."""
        self.records.append(self._load(plugin))
        return self.records[-1]

    def _load(self, plugin: Plugin) -> Record:
        failed = Record(plugin.name, plugin.dist, plugin.version, "failed", "import")
        try:
            done = subprocess.run(
                [sys.executable, "-c", LOAD_ONE, plugin.name],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=self._seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            hint = f"leave it out with ADAPTERHUB_DISABLE={plugin.name}"
            return replace(failed, error=f"not ready within {self._seconds:g} s; {hint}")
        try:
            record = json.loads(done.stdout.rpartition("\n")[2])
            return Record(**{**record, "strategies": tuple(record["strategies"])})
        except ValueError:
            return replace(failed, error=f"it ended the process it was loaded in (exit status {done.returncode})")
