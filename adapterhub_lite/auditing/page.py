"""An audit as a page of HTML: one file, no script, nothing from outside; whatever comes from the data is escaped."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from adapterhub_lite.auditing.outcome import Audit

SHOWN, LONGEST = 20, 300
"""Rows of a finding on the page, and characters of what is said of one; all are in the CSV beside it."""


def page_of(audit: Audit, rows_file: str) -> str:
    """The page as text, which names the file of rows beside it."""
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    named: dict[str, list[tuple[str, int, str, str]]] = {}
    for finding in audit.findings:
        shown = []
        for row in finding.rows[:SHOWN]:
            twin = "" if row.partner is None else f"{row.partner[0]} {audit.row_number(*row.partner)}"
            shown.append((row.side, audit.row_number(row.side, row.place), row.why[:LONGEST], twin))
        named[finding.name] = named.get(finding.name) or shown
    told = [finding for finding in audit.findings if finding.level != "fine"]
    return templates.get_template("page.html").render(
        audit=audit,
        told=told,
        named=named,
        closing=audit.closing(),
        rows_file=rows_file,
    )
