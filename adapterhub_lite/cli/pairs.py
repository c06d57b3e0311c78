"""Reading options that are given as KEY=VALUE."""

from __future__ import annotations

from typing import Any

import yaml

from adapterhub_lite.errors import ConfigError


def parse_settings(pairs: list[str], option: str = "--set") -> dict[str, Any]:
    """Read `--set key=value` options; values are written as in YAML.

    Raises:
        ConfigError: an option that is not key=value.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{option} {pair}: write it as {option} key=value")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            parsed = value
        if value and (not value.strip() or parsed == ""):
            parsed = value.strip("'\"") if value.strip() else value  # to YAML "|" opens a block, and a blank is nothing
        # YAML 1.1 reads 1e-3 as text, which nobody means; anything else that is text stays text.
        settings[key.strip()] = _number(parsed) if isinstance(parsed, str) else parsed
    return settings


def parse_columns(pairs: list[str]) -> dict[str, str]:
    """Read `--column ROLE=NAME` options.

    Raises:
        ConfigError: one that is not ROLE=NAME, or a role named twice.
    """
    columns: dict[str, str] = {}
    for pair in pairs:
        role, equals, name = (part.strip() for part in pair.partition("="))
        if not equals or not role or not name:
            raise ConfigError(f"--column {pair}: write it as --column ROLE=NAME, as in --column labels=tags")
        if role in columns:
            raise ConfigError(f"--column {pair}: the {role} column is named twice")
        columns[role] = name
    return columns


def _number(text: str) -> str | float:
    try:
        return float(text) if any(c.isdigit() for c in text) else text
    except ValueError:
        return text
