"""The tables in docs/conformance-kit.md are those that the code makes."""

from __future__ import annotations

from pathlib import Path

from adapterhub_lite.testing.checks import all_checks, observer_checks, task_checks
from docs.make_kit_tables import replaced

DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance-kit.md"


def test_tables_are_up_to_date() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert replaced(text) == text, "run python -m docs.make_kit_tables"
    for check in (*all_checks(), *task_checks(), *observer_checks()):
        assert f"`{check.name}`" in text
