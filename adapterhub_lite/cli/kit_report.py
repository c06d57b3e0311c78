"""What `adapterhub-lite plugins check` does: run the kit in a subprocess with a time limit, and show what came of it."""

from __future__ import annotations

import difflib
import sys
from dataclasses import asdict
from typing import Any

import typer

from adapterhub_lite.cli.options import print_json
from adapterhub_lite.cli.pairs import parse_settings
from adapterhub_lite.errors import ConfigError, PluginError, StrategyNotFoundError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.spec import ProvidedStrategy
from adapterhub_lite.progress import Lines
from adapterhub_lite.testing.remote import CheckProcessError, RemoteRun, check_in_subprocess
from adapterhub_lite.testing.results import KIT_VERSION, CheckResult

COLOURS = {
    "passed": "green", "failed": "bold red", "expected_failure": "yellow", "unexpected_pass": "bold red", "skipped": "dim"
}  # fmt: skip


def run_kit(
    name: str, *, as_json: bool, timeout: float, expect: list[str], only: list[str] | None, everything: bool
) -> None:
    """See `adapterhub_lite.cli.check.plugins_check`.

    Raises:
        ConfigError: an option that makes no sense.
        PluginError: the plug-in failed to load, hung, or took its process along.
        StrategyNotFoundError: a name that is neither a plug-in nor a strategy.
    """
    if not timeout > 0:
        raise ConfigError(f"--timeout {timeout:g}: give a number of seconds above 0")
    expected = {check: str(reason) for check, reason in parse_settings(expect).items()}
    error: PluginError | None = None
    checked: list[tuple[ProvidedStrategy, list[CheckResult]]] = []
    for provided in _choose(Plugins(), name):
        try:
            checked.append((provided, _run(provided, timeout, expected, only)))
        except CheckProcessError as died:
            checked.append((provided, died.results))
            error = error or died
    ok = error is None and all(result.ok for _, results in checked for result in results)
    if as_json:
        print_json({"kit": KIT_VERSION, "ok": ok, "error": str(error) if error else None, "strategies": [
            _as_json(provided, results) for provided, results in checked
        ]})  # fmt: skip
    else:
        for provided, results in checked:
            _print(provided, results, everything=everything)
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
    found = [
        p for p in plugins.strategies if p.plugin == name or p.spec.name == name or f"{p.dist}:{p.spec.name}" == name
    ]
    if found:
        return found
    for record in plugins.records:
        if record.name == name:
            at = f" at stage '{record.stage}'" if record.stage else ""
            why = f"{record.state}{at}: {record.error}" if record.error else "loaded, but offers no strategy to check"
            raise PluginError(f"plug-in '{name}' ({record.dist} {record.version}) is {why}")
    known = sorted({record.name for record in plugins.records} | {p.spec.name for p in plugins.strategies})
    close = difflib.get_close_matches(name, known, n=1)
    meant = f" (did you mean '{close[0]}'?)" if close else ""
    raise StrategyNotFoundError(
        f"there is no plug-in or strategy '{name}'{meant}; installed: {', '.join(known) or 'none'}"
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


def _as_json(provided: ProvidedStrategy, results: list[CheckResult]) -> dict[str, Any]:
    return {
        "strategy": provided.spec.name,
        "plugin": provided.plugin,
        "dist": provided.dist,
        "version": provided.version,
        "counts": _counts(results),
        "results": [{"id": result.id, **asdict(result)} for result in results],
    }


def _print(provided: ProvidedStrategy, results: list[CheckResult], *, everything: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(file=sys.stdout)
    title = f"{provided.spec.name} ({provided.dist} {provided.version}), kit {KIT_VERSION}"
    shown = [result for result in results if everything or result.status not in ("passed", "skipped")]
    if shown:
        table = Table(title=title, title_justify="left")
        for column in ("check", "model", "result", "why"):
            table.add_column(column, overflow="fold")
        for result in shown:
            status = f"[{COLOURS[result.status]}]{result.status.replace('_', ' ')}[/]"
            table.add_row(result.name, result.model or "", status, escape(result.message))
        console.print(table)
    counts = ", ".join(f"{number} {status.replace('_', ' ')}" for status, number in _counts(results).items() if number)
    console.print(f"{escape(title)}: {counts or 'nothing was checked'}", highlight=False)


def _counts(results: list[CheckResult]) -> dict[str, int]:
    return {status: sum(result.status == status for result in results) for status in COLOURS}
