"""How verbs print what came of them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from typing import Any

import typer
from rich.console import Console

from adapterhub_lite.names import scores_shown


def plain_console() -> Console:
    """A console on standard output to which names of files and labels are text: no markup, no emoji."""
    return Console(markup=False, emoji=False)


def print_json(value: Any) -> None:
    """Write one JSON object to standard output, whatever the terminal can show."""
    speaks_all = "utf" in (sys.stdout.encoding or "").lower()
    json.dump(value, sys.stdout, ensure_ascii=not speaks_all, indent=2, allow_nan=False)
    print()


def print_result(value: Mapping[str, Any], *lines: str, as_json: bool) -> None:
    """Write a result to standard output, as one JSON object or in words."""
    if as_json:
        print_json(value)
    else:
        typer.echo("\n".join(lines))


def command_line() -> str:
    """The command that is running, as one would write it again."""
    return shlex.join(["adapterhub-lite", *sys.argv[1:]])


def say_columns(columns: Mapping[str, str], source: str) -> None:
    """Tell on standard error which columns are read as what."""
    if columns:
        roles = ", ".join(f"{role} from '{name}'" for role, name in columns.items())
        print(f"{source}: reading {roles}", file=sys.stderr)


def scores_in_words(metrics: Mapping[str, float | None]) -> str:
    """Held-out scores in one line, without the number of rows."""
    return ", ".join(f"{name} {score}" for name, score in scores_shown(metrics))
