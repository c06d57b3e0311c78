"""`adapterhub-lite plugins check`: runs the conformance kit in another process, with a time limit, and shows its results."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from adapterhub_lite.cli.options import AsJson, parse_settings
from adapterhub_lite.cli.output import print_json
from adapterhub_lite.errors import ConfigError, PluginError, StrategyNotFoundError
from adapterhub_lite.names import did_you_mean
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.spec import ProvidedStrategy
from adapterhub_lite.progress import Lines
from adapterhub_lite.testing.check import KIT_VERSION, CheckResult
from adapterhub_lite.testing.remote import CheckProcessError, RemoteRun, check_in_subprocess

COLOURS = {
    "passed": "green", "failed": "bold red", "expected_failure": "yellow", "unexpected_pass": "bold red", "skipped": "dim"
}  # fmt: skip


def plugins_check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A strategy, or a plug-in with all its strategies.")],
    json_: AsJson = False,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="Longest time for each strategy.")
    ] = 300.0,
    expect: Annotated[
        list[str] | None,
        typer.Option(
            "--expect-failure", metavar="CHECK=REASON", help="A check that is expected to fail; it is still run."
        ),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="CHECK", help="Run this check alone; repeatable.")
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", metavar="", help="List every check, not only what did not pass.")
    ] = False,
) -> None:
    """Run the conformance kit on a strategy; exit code 0 only when nothing failed unexpectedly."""
    if not timeout > 0:
        raise ConfigError(f"--timeout {timeout:g}: give a number of seconds above 0")
    expected = {check: str(reason) for check, reason in parse_settings(expect or []).items()}
    error: PluginError | None = None
    checked: list[tuple[ProvidedStrategy, list[CheckResult]]] = []
    for provided in _choose(Plugins(), name):
        try:
            checked.append((provided, _run(provided, timeout, expected, only)))
        except CheckProcessError as died:
            checked.append((provided, died.results))
            error = error or died
    ok = error is None and all(result.ok for _, results in checked for result in results)
    if json_:
        strategies = [
            {
                "strategy": provided.spec.name,
                "plugin": provided.plugin,
                "dist": provided.dist,
                "version": provided.version,
                "counts": _counts(results),
                "results": [{"id": result.id, **asdict(result)} for result in results],
            }
            for provided, results in checked
        ]
        print_json({"kit": KIT_VERSION, "ok": ok, "error": str(error) if error else None, "strategies": strategies})
    else:
        for provided, results in checked:
            _print(provided, results, everything=all_)
    if error is not None:
        raise error
    if not ok:
        raise typer.Exit(1)


def _choose(plugins: Plugins, name: str) -> list[ProvidedStrategy]:
    """The strategies a name stands for.

    Raises:
        PluginError: a plug-in that failed or is disabled, or offers no strategy.
        StrategyNotFoundError: a name that is neither a plug-in nor a strategy.
    """
    chosen = [
        provided for provided in plugins.strategies if name in (provided.plugin, provided.spec.name, provided.qualified)
    ]
    if chosen:
        return chosen
    for record in plugins.records:
        if record.name == name:
            at = f" at stage '{record.stage}'" if record.stage else ""
            why = f"{record.state}{at}: {record.error}" if record.error else "loaded, but offers no strategy to check"
            raise PluginError(f"plug-in '{name}' ({record.dist} {record.version}) is {why}")
    known = sorted({record.name for record in plugins.records} | {p.spec.name for p in plugins.strategies})
    raise StrategyNotFoundError(
        f"there is no plug-in or strategy '{name}'{did_you_mean(name, known)}; installed: {', '.join(known) or 'none'}"
    )


def _run(
    provided: ProvidedStrategy, timeout: float, expected: dict[str, str], only: list[str] | None
) -> list[CheckResult]:
    with Lines().bar(f"checking {provided.spec.name}", 100, "%") as bar:
        shown = 0.0

        def report(run: RemoteRun) -> None:
            nonlocal shown
            share = 100 * len(run.results) / max(1, run.total)
            bar.advance(share - shown, run.running or "")
            shown = share

        return check_in_subprocess(provided, timeout=timeout, expected_failures=expected, checks=only, report=report)


def _print(provided: ProvidedStrategy, results: list[CheckResult], *, everything: bool) -> None:
    console = Console(file=sys.stdout)
    title = f"{provided.spec.name} ({provided.dist} {provided.version}), kit {KIT_VERSION}"
    shown = [result for result in results if everything or result.status not in ("passed", "skipped")]
    if shown:
        columns = (Column(name, overflow="fold") for name in ("check", "model", "result", "why"))
        table = Table(*columns, title=title, title_justify="left")
        for result in shown:
            status = f"[{COLOURS[result.status]}]{result.status.replace('_', ' ')}[/]"
            table.add_row(result.name, result.model or "", status, escape(result.message))
        console.print(table)
    counts = ", ".join(f"{number} {status.replace('_', ' ')}" for status, number in _counts(results).items() if number)
    console.print(f"{escape(title)}: {counts or 'nothing was checked'}", highlight=False)


def _counts(results: list[CheckResult]) -> dict[str, int]:
    return {status: sum(result.status == status for result in results) for status in COLOURS}
