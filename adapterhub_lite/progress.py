"""Progress for long work: a rich bar on a terminal, a line now and then where there is none. No torch here."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Bar(Protocol):
    """One piece of long work."""

    def advance(self, amount: float, note: str = "") -> None:
        """Count `amount` done and show a short note, such as the loss."""
        ...


class Progress(Protocol):
    """Where the engine says what it does."""

    def say(self, line: str) -> None:
        """Tell the user a fact worth a line."""
        ...

    def bar(self, name: str, total: float, unit: str) -> AbstractContextManager[Bar]:
        """Show work of a known size."""
        ...


class Silent:
    """Says nothing."""

    def say(self, line: str) -> None:
        pass

    @contextmanager
    def bar(self, name: str, total: float, unit: str) -> Iterator[Bar]:
        yield _NoBar()


class _NoBar:
    def advance(self, amount: float, note: str = "") -> None:
        pass


class Lines:
    """Writes to standard error: a bar on a terminal, else a plain line every ten seconds and at the end."""

    EVERY = 10.0

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    @contextmanager
    def bar(self, name: str, total: float, unit: str) -> Iterator[Bar]:
        if not sys.stderr.isatty():
            line_bar = _LineBar(name, total, unit)
            yield line_bar
            line_bar.finish()
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = [
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
            TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        ]  # fmt: skip
        with RichProgress(*columns, console=Console(stderr=True), transient=False) as rich:
            yield _RichBar(rich, rich.add_task(name, total=total, note="", rate=""), unit)


class _LineBar:
    def __init__(self, name: str, total: float, unit: str):
        self.name, self.total, self.unit = name, total, unit
        self.done, self.note, self.started = 0.0, "", time.monotonic()
        self.said = self.started

    def advance(self, amount: float, note: str = "") -> None:
        self.done += amount
        self.note = note or self.note
        if time.monotonic() - self.said >= Lines.EVERY and self.done < self.total:
            self._write()

    def finish(self) -> None:
        self._write()

    def _write(self) -> None:
        self.said = time.monotonic()
        spent = self.said - self.started
        rate = self.done / spent if spent > 0 else 0.0
        left = f", {max(self.total - self.done, 0) / rate:.0f} s left" if rate and self.done < self.total else ""
        text = f"{self.name}: {self.done:.0f}/{self.total:.0f} {self.unit}, {rate:.1f}/s, {spent:.1f} s{left}"
        print(f"{text}  {self.note}".rstrip(), file=sys.stderr, flush=True)


class _RichBar:
    def __init__(self, rich: object, task: object, unit: str):
        self.rich, self.task, self.started, self.done = rich, task, time.monotonic(), 0.0

    def advance(self, amount: float, note: str = "") -> None:
        self.done += amount
        rate = self.done / max(time.monotonic() - self.started, 1e-9)
        self.rich.update(self.task, advance=amount, note=note, rate=f"{rate:.1f}/s")  # type: ignore[attr-defined]
