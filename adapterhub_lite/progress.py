"""Progress for long work: a bar on a terminal and in a notebook, elsewhere a line now and then to the log. No torch here.

Whatever says something or counts on is at a safe point: there a signal that came before is acted on.
"""

from __future__ import annotations

import copy
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeVar

from adapterhub_lite.interrupt import safe_point
from adapterhub_lite.notebook import Growing, in_notebook

log = logging.getLogger("adapterhub_lite")
"""Where lines go that no one watches; a program that wants to see them gives it a handler, as the command line does."""
log.addHandler(logging.NullHandler())


@contextmanager
def logged_on_standard_error() -> Iterator[None]:
    """Write what goes to `log` to standard error, for the length of a `with` block."""
    handler, level = logging.StreamHandler(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class Bar(Protocol):
    """One piece of long work."""

    def advance(self, amount: float, note: str = "", work: float | None = None) -> None:
        """Count `amount` done, show a short note, such as the loss, and count `work` towards the rate if it is not that."""
        ...


class Progress(Protocol):
    """Where the engine says what it does."""

    def say(self, line: str) -> None:
        """Tell the user a fact worth a line."""
        ...

    def bar(self, name: str, total: float, unit: str, rate: str = "") -> AbstractContextManager[Bar]:
        """Show work of a known size, counted in `unit`, and its speed in another one if `rate` names it."""
        ...


class Silent:
    """Says nothing."""

    def say(self, line: str) -> None:
        safe_point()

    @contextmanager
    def bar(self, name: str, total: float, unit: str, rate: str = "") -> Iterator[Bar]:
        yield _NoBar()


def shown(progress: Progress, wanted: bool) -> Progress:
    """Where to show work, or a place that shows nothing."""
    return progress if wanted else Silent()


class _Shows(Protocol):
    progress: Progress


Owner = TypeVar("Owner", bound=_Shows)


def silenced(owner: Owner) -> Owner:
    """A copy of what shows its work that says nothing; they share all else."""
    quiet = copy.copy(owner)
    quiet.progress = Silent()
    return quiet


class _NoBar:
    def advance(self, amount: float, note: str = "", work: float | None = None) -> None:
        safe_point()


class Lines:
    """Writes to standard error where that is a terminal or a notebook; else to `log`, every ten seconds and at the end."""

    EVERY = 10.0

    def say(self, line: str) -> None:
        if sys.stderr.isatty() or in_notebook():
            print(line, file=sys.stderr, flush=True)
        else:
            log.log(logging.WARNING if line.startswith("warning:") else logging.INFO, line)
        safe_point()

    @contextmanager
    def bar(self, name: str, total: float, unit: str, rate: str = "") -> Iterator[Bar]:
        if not sys.stderr.isatty() or in_notebook():
            line_bar = (_NotebookBar if in_notebook() else _LineBar)(name, total, unit, rate or unit)
            yield line_bar
            line_bar.write()
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress as RichProgress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = [
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
            TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        ]  # fmt: skip
        with RichProgress(*columns, console=Console(stderr=True), transient=False) as rich:
            yield _RichBar(rich, rich.add_task(name, total=total, note="", rate=""), rate or unit)


class _LineBar:
    every = Lines.EVERY

    def __init__(self, name: str, total: float, unit: str, rate: str):
        self.name, self.total, self.unit, self.rate = name, total, unit, rate
        self.done, self.work, self.note, self.started = 0.0, 0.0, "", time.monotonic()
        self.said = self.started

    def advance(self, amount: float, note: str = "", work: float | None = None) -> None:
        self.done += amount
        self.work += amount if work is None else work
        self.note = note or self.note
        if time.monotonic() - self.said >= self.every and self.done < self.total:
            self.write()
        safe_point()

    def write(self) -> None:
        self.said = time.monotonic()
        spent = self.said - self.started
        left = f", {spent * (self.total / self.done - 1):.0f} s left" if 0 < self.done < self.total else ""
        speed = f"{_number(self.work / max(spent, 1e-9))} {self.rate}/s"
        text = f"{self.name}: {self.done:.0f}/{self.total:.0f} {self.unit}, {speed}, {spent:.1f} s{left}"
        self.show(f"{text}  {self.note}".rstrip())

    def show(self, text: str) -> None:
        log.info(text)


class _NotebookBar(_LineBar):
    every = 0.2

    def __init__(self, name: str, total: float, unit: str, rate: str):
        super().__init__(name, total, unit, rate)
        self.growing = Growing()

    def show(self, text: str) -> None:
        self.growing.show(self.done, self.total, text)


class _RichBar:
    def __init__(self, rich: Any, task: Any, rate: str):
        self.rich, self.task, self.rate, self.started, self.work = rich, task, rate, time.monotonic(), 0.0

    def advance(self, amount: float, note: str = "", work: float | None = None) -> None:
        self.work += amount if work is None else work
        speed = _number(self.work / max(time.monotonic() - self.started, 1e-9))
        self.rich.update(self.task, advance=amount, note=note, rate=f"{speed} {self.rate}/s")
        safe_point()


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"
