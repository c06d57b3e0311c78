"""`adapterhub-lite plugins check`."""

from __future__ import annotations

from typing import Annotated

import typer

from adapterhub_lite.cli.options import AsJson

Name = Annotated[str, typer.Argument(metavar="NAME", help="A strategy, or a plug-in with all its strategies.")]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="Longest time for each strategy.")]
Expect = Annotated[
    list[str] | None,
    typer.Option("--expect-failure", metavar="CHECK=REASON", help="A check that is expected to fail; it is still run."),
]
Only = Annotated[list[str] | None, typer.Option("--only", metavar="CHECK", help="Run this check alone; repeatable.")]
All = Annotated[bool, typer.Option("--all", metavar="", help="List every check, not only what did not pass.")]


def plugins_check(
    name: Name,
    json_: AsJson = False,
    timeout: Timeout = 300.0,
    expect: Expect = None,
    only: Only = None,
    all_: All = False,
) -> None:
    """Run the conformance kit on a strategy; exit code 0 only when nothing failed unexpectedly."""
    from adapterhub_lite.cli.kit_report import run_kit

    run_kit(name, as_json=json_, timeout=timeout, expect=expect or [], only=only, everything=all_)
