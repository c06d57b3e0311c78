"""Progress that is kept instead of shown."""

from __future__ import annotations

from adapterhub_lite.progress import Silent


class Listening(Silent):
    """Keeps every line that is said, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)
