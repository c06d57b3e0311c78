"""An audit: its findings, as text, JSON, a page, a table of rows, and a repaired file. No torch here."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from adapterhub_lite.auditing.finding import DATA, Finding, Level
from adapterhub_lite.auditing.targets import check_files, page_files
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import StorageError

ORDER: tuple[Level, ...] = ("alarm", "note", "unknown", "fine")
ROW_COLUMNS = ("finding", "level", "side", "row", "why", "other side", "other row")


@dataclass(frozen=True, repr=False)
class Audit:
    """What was looked for in a data set; printed it is a table."""

    source: str
    rows: int
    held_out: str | None
    held_out_rows: int
    findings: list[Finding]
    """The worst first."""
    notes: list[str]
    """What was sampled, and what was not looked at."""
    seconds: float
    datasets: dict[str, Dataset] = field(compare=False)
    """The data, and what is scored on, by the names of the sides."""

    def __getitem__(self, name: str) -> Finding:
        """The first finding of a name, the worst one."""
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(name)

    @property
    def alarms(self) -> list[Finding]:
        """What should be mended before training."""
        return [finding for finding in self.findings if finding.level == "alarm"]

    @property
    def sources(self) -> list[str]:
        """What was read, which is never written over."""
        return [dataset.source for dataset in self.datasets.values()]

    def record(self) -> dict[str, Any]:
        """All of it as JSON, but the rows that findings name, which `write_rows` writes."""
        names = ("source", "rows", "held_out", "held_out_rows", "notes", "seconds")
        facts = {name: getattr(self, name) for name in names}
        told: dict[str, Any] = json.loads(
            json.dumps({**facts, "findings": [finding.record() for finding in self.findings]}, default=float)
        )
        return told

    def row_number(self, side: str, place: int) -> int:
        """The number that a row has in its file, from 1 on."""
        table = self.datasets[side].table
        return 1 + (place if table is None or table.rows is None else table.rows[place])

    def named(self) -> list[tuple[str, str, str, int, str, str, int | str]]:
        """A row for each row that a finding names, as `ROW_COLUMNS` says."""
        lines: list[tuple[str, str, str, int, str, str, int | str]] = []
        for finding in self.findings:
            for row in finding.rows:
                other = ("", "") if row.partner is None else (row.partner[0], self.row_number(*row.partner))
                number = self.row_number(row.side, row.place)
                lines.append((finding.name, finding.level, row.side, number, row.why, *other))
        return lines

    def write_rows(self, path: str | Path) -> None:
        """Write the rows that findings name as CSV.

        Raises:
            StorageError: it cannot be written.
        """
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerows([ROW_COLUMNS, *map(_harmless, self.named())])
        write_text(path, text.getvalue())

    def save(self, path: str | Path) -> None:
        """Write the page, and beside it the rows, as NAME.rows.csv.

        Raises:
            ConfigError: one of them is what was read, or the folder is missing.
            StorageError: one of them cannot be written.
        """
        from adapterhub_lite.auditing.page import page_of

        page, rows = page_files(path)
        check_files(f"--out {path}", [page, rows], self.sources)
        write_text(page, page_of(self, rows.name))
        self.write_rows(rows)

    def fix(self, path: str | Path) -> int:
        """Write the data without the rows that are to be left out, and a log of each as PATH.log.csv; see `repaired`."""
        from adapterhub_lite.auditing.repair import repaired

        return repaired(self, path)

    def __str__(self) -> str:
        file = io.StringIO()
        console = Console(file=file, width=100, markup=False, emoji=False)
        console.print(table_of(self))
        for line in self.closing():
            console.print(line, soft_wrap=True)
        return file.getvalue()

    __repr__ = __str__

    def closing(self) -> list[str]:
        """What is said below the table: what is fine, what was sampled, and how long it took."""
        good = sorted({finding.name for finding in self.findings if finding.level == "fine"})
        lines = [f"nothing to say of: {', '.join(good)}"] if good else []
        lines += [f"note: {note}" for note in self.notes]
        counts = Counter(finding.level for finding in self.findings)
        rows = f"{self.rows:,} rows" + (f", {self.held_out_rows:,} to score on" if self.held_out is not None else "")
        return [*lines, f"{rows}: {counts['alarm']} alarms, {counts['note']} notes; {self.seconds:.1f} s"]


def table_of(audit: Audit) -> Table:
    """The findings that say something, the worst first."""
    table = Table(
        "", "finding", "what", "points", "what to do", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for finding in audit.findings:
        if finding.level != "fine":
            points = "" if finding.points is None else f"{finding.points:.1f}"
            table.add_row(
                finding.level, finding.name, finding.says, points, finding.advice,
                style="bold" if finding.level == "alarm" else "",
            )  # fmt: skip
    return table


def sorted_findings(findings: Sequence[Finding]) -> list[Finding]:
    """The worst level first, and in it what costs most."""
    return sorted(findings, key=lambda finding: (ORDER.index(finding.level), -(finding.points or 0.0)))


def write_text(path: str | Path, text: str) -> None:
    """Write a file whole, or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    target = Path(path).expanduser()
    partial = target.with_name(f".{target.name}.partial")
    try:
        # What the data says may hold half characters, which UTF-8 has not.
        partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
        partial.replace(target)
    except OSError as error:
        raise StorageError(
            f"{target}: could not be written ({error.strerror}); check the folder and its space"
        ) from error
    finally:
        with suppress(OSError):  # gone already where all went well
            partial.unlink()


def _harmless(values: Sequence[Any]) -> list[Any]:
    """Cells that no spreadsheet takes for a formula."""
    return [f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value for value in values]


def leaves_out(findings: Sequence[Finding]) -> dict[int, list[tuple[str, str]]]:
    """The rows of the data that are to be left out, by position: names of findings and why."""
    out: dict[int, list[tuple[str, str]]] = {}
    for finding in findings:
        for row in finding.rows if finding.drops else ():
            # Of a row to score on its twin in the data goes: what is scored on stays.
            side, place = (row.side, row.place) if row.side == DATA or row.partner is None else row.partner
            if side == DATA:
                out.setdefault(place, []).append((finding.name, row.why))
    return out
