"""A report: its facts, and the files that are made of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from adapterhub_lite.errors import ConfigError, StorageError
from adapterhub_lite.pages.render import html
from adapterhub_lite.reporting.compared import compared_page
from adapterhub_lite.reporting.page import page_of
from adapterhub_lite.reporting.saved import saved_facts
from adapterhub_lite.training.run.left import FORMAT, HTML, JSON

EXAMPLES = ("examples", "saliency", "answers", "points", "through_time")
"""The facts that hold rows of the data, or their numbers and the names of their series."""


@dataclass(frozen=True, repr=False)
class Report:
    """What came of a run. In a notebook it is the page."""

    facts: dict[str, Any]
    """Everything that is told, as JSON."""

    def __repr__(self) -> str:
        return f"<Report on {', '.join(one['name'] for one in self.facts.get('compared', [self.facts]))}>"

    def _repr_html_(self) -> str:
        """The page in a frame of its own, in a notebook."""
        return f'<iframe srcdoc="{escape(self.html())}" style="width: 100%; height: 40rem; border: 0"></iframe>'

    @classmethod
    def of(cls, facts: Sequence[dict[str, Any]]) -> Report:
        """The report of one adapter, or of several beside each other.

        Raises:
            ConfigError: of none.
        """
        if not facts:
            raise ConfigError("a report is of one adapter or of several; name one")
        made = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(facts[0] if len(facts) == 1 else {"report": FORMAT, "made": made, "compared": list(facts)})

    def without_examples(self) -> Report:
        """The same without rows of the data."""
        if "compared" in self.facts:
            kept = [Report(one).without_examples().facts for one in self.facts["compared"]]
            return Report({**self.facts, "compared": kept})
        return Report({name: value for name, value in self.facts.items() if name not in EXAMPLES})

    def html(self, *, beside: bool = False) -> str:
        """The page: one file that needs no script and nothing outside of it; `beside` says that report.json is beside it."""
        return html(compared_page(self.facts) if "compared" in self.facts else page_of(self.facts, beside=beside))

    def save(self, path: str | Path) -> Path:
        """Write the page.

        Raises:
            StorageError: it cannot be written.
        """
        return write(Path(path), self.html())

    def leave(self, folder: Path) -> Path:
        """Write the facts and the page into a folder, and return the page's path.

        Raises:
            StorageError: they cannot be written.
        """
        write(folder / JSON, json.dumps(self.facts, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        return write(folder / HTML, self.html(beside=True))


def report_of_saved(paths: Sequence[Path]) -> Report:
    """The report of saved adapters, from what their runs left or their manifests tell; loads no model.

    Raises:
        AdapterNotFoundError, AdapterCorruptError: no such adapter, or not as it was saved.
    """
    return Report.of([saved_facts(path) for path in paths])


def write(path: Path, text: str) -> Path:
    """Write a text file whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        new.write_text(text, encoding="utf-8", errors="backslashreplace")
        new.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: the report cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):  # there only where it was not written whole
            new.unlink(missing_ok=True)
    return path
