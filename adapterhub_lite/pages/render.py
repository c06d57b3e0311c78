"""From a page to HTML. Whatever text it holds is shown as text, with signs that hide or turn others made visible."""

from __future__ import annotations

import math
import re
import unicodedata
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from adapterhub_lite.pages.content import Page

HERE = Path(__file__).parent
STYLE = HERE / "style.css"
KEPT = "\n\t\u200d"
"""Signs without a shape that are harmless: line breaks, and what joins emoji."""
HIDING = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
"""Unicode's categories of control, format, half, private and separating signs: those that turn the direction are among them."""


def visible(text: Any) -> str:
    """Text in which signs that are not seen, such as those that turn its direction, are written as their numbers."""
    return "".join(
        sign if sign in KEPT or unicodedata.category(sign) not in HIDING else f"[U+{ord(sign):04X}]"
        for sign in str(text)
    )


def cut(text: Any, most: int) -> str:
    """The beginning of a text, in which what is left out is counted."""
    text = str(text)
    return text if len(text) <= most else f"{text[:most]} … ({len(text) - most:,} more characters)"


def shown(cell: Any) -> str:
    """A cell of a table: numbers with as many digits as tell something."""
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return "–"
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return str(cell)
    if isinstance(cell, int):
        return f"{cell:,}"
    size = abs(cell)
    return f"{cell:.3f}" if 0.0005 <= size < 10 or cell == 0 else f"{cell:.3g}" if size < 0.0005 else f"{cell:,.1f}"


def html(page: Page) -> str:
    """The page as one file: style within, no script, and a policy by which a browser loads nothing else."""
    made = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        finalize=_finished,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"shown": shown, "anchor": anchor}
    style = Markup(STYLE.read_text(encoding="utf-8"))
    return made.get_template("page.html.j2").render(page=page, style=style)


def anchor(title: str) -> str:
    """The name of a part for links within the page."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _finished(value: Any) -> Any:
    return value if isinstance(value, Markup) else visible(value)
