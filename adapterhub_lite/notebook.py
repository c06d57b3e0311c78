"""What a notebook shows: values as plain tables, and a bar that grows in its place."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def in_notebook() -> bool:
    """Whether a notebook shows what is displayed; one that runs has imported IPython."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def table(title: str, rows: Iterable[Sequence[Any]], head: Sequence[str] = ()) -> str:
    """An HTML table in which every cell is text, whatever signs it has.

    Args:
        title: Stands above it.
        rows: The cells of each row.
        head: The names of the columns.
    """
    lines = ["".join(f"<th>{escape(str(name))}</th>" for name in head)] if head else []
    lines += ["".join(f'<td style="text-align: left">{escape(str(cell))}</td>' for cell in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><caption>{escape(title)}</caption>{body}</table>"


class Growing:
    """A bar with a line of text beside it, which takes the place of what it was before."""

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self._html = HTML
        self._handle = display(HTML(""), display_id=True)

    def show(self, done: float, total: float, text: str) -> None:
        """Show that so much of a total is done."""
        bar = f'<progress value="{done:g}" max="{total:g}"></progress>'
        self._handle.update(self._html(f"{bar} <code>{escape(text)}</code>"))
