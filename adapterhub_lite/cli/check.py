"""`adapterhub-lite plugins check`: runs the conformance kit in another process, with a time limit, and shows its results."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from adapterhub_lite.cli.options import AsJson, parse_settings
from adapterhub_lite.cli.output import print_json
from adapterhub_lite.errors import ConfigError, PluginError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.progress import Lines
from adapterhub_lite.testing.check import KIT_VERSION, CheckResult, Status
from adapterhub_lite.testing.remote import CheckProcessError, RemoteRun, check_in_subprocess
from adapterhub_lite.testing.targets import KINDS, Target, choose_targets

COLOURS = {
    "passed": "green", "failed": "bold red", "expected_failure": "yellow", "unexpected_pass": "bold red", "skipped": "dim"
}  # fmt: skip


def plugins_check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A strategy or a task, or a plug-in with all it offers.")],
    json_: AsJson = False,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="Longest time for each of them.")
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
    """Run the conformance kit on strategies, tasks and observers; exit code 0 only when nothing failed unexpectedly."""
    if not timeout > 0:
        raise ConfigError(f"--timeout {timeout:g}: give a number of seconds above 0")
    expected = {check: str(reason) for check, reason in parse_settings(expect or []).items()}
    error: PluginError | None = None
    checked: list[tuple[Target, list[CheckResult]]] = []
    for target in choose_targets(Plugins(), name):
        try:
            checked.append((target, _run(target, timeout, expected, only)))
        except CheckProcessError as died:
            checked.append((target, died.results))
            error = error or died
    ok = error is None and all(result.ok for _, results in checked for result in results)
    if json_:
        report: dict[str, list[dict[str, Any]]] = {several: [] for several in KINDS.values()}
        for target, results in checked:
            described = {key: getattr(target, key) for key in ("plugin", "dist", "version", "module")}
            listed = [{"id": result.id, **asdict(result)} for result in results]
            of_one = {target.kind: target.name, **described, "counts": _counts(results), "results": listed}
            report[KINDS[target.kind]].append(of_one)
        print_json({"kit": KIT_VERSION, "ok": ok, "error": str(error) if error else None, **report})
    else:
        for target, results in checked:
            _print(target, results, everything=all_)
    if error is not None:
        raise error
    if not ok:
        raise typer.Exit(1)


def _run(target: Target, timeout: float, expected: dict[str, str], only: list[str] | None) -> list[CheckResult]:
    with Lines().bar(f"checking {target.name}", 100, "%") as bar:
        shown = 0.0

        def report(run: RemoteRun) -> None:
            nonlocal shown
            share = 100 * len(run.results) / max(1, run.total)
            bar.advance(share - shown, run.running or "")
            shown = share

        return check_in_subprocess(target, timeout=timeout, expected_failures=expected, checks=only, report=report)


def _print(target: Target, results: list[CheckResult], *, everything: bool) -> None:
    console = Console(file=sys.stdout)
    title = f"{target.name} ({target.dist} {target.version}), kit {KIT_VERSION}"
    if target.kind != "strategy":
        title = f"{target.kind} {title}"
    shown = [result for result in results if everything or result.status not in ("passed", "skipped")]
    if shown:
        columns = (Column(name, overflow="fold") for name in ("check", "model", "result", "why"))
        table = Table(*columns, title=f"{title}\n{escape(target.module)}", title_justify="left", show_lines=True)
        for (status, message), models in _grouped(shown).items():
            result = f"[{COLOURS[status]}]{status.replace('_', ' ')}[/]"
            table.add_row("\n".join(models), "\n".join(map(", ".join, models.values())), result, escape(message))
        console.print(table)
    counts = ", ".join(f"{number} {status.replace('_', ' ')}" for status, number in _counts(results).items() if number)
    console.print(f"{escape(title)}: {counts or 'nothing was checked'}", highlight=False)


def _grouped(results: list[CheckResult]) -> dict[tuple[Status, str], dict[str, list[str]]]:
    """Those that say the same, in one place: the models by check, by what they say."""
    groups: dict[tuple[Status, str], dict[str, list[str]]] = {}
    for result in results:
        models = groups.setdefault((result.status, result.message), {}).setdefault(result.name, [])
        models += [result.model] if result.model is not None else []
    return groups


def _counts(results: list[CheckResult]) -> dict[str, int]:
    return {status: sum(result.status == status for result in results) for status in COLOURS}
