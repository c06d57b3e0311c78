"""Drawings by matplotlib as SVG within a page: their colours are those of its style sheet, so they follow light and dark."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from threading import RLock
from typing import Any

from markupsafe import Markup, escape

from adapterhub_lite.pages.render import visible

INK, MUTED, LINE, ACCENT, SECOND, THIRD = "#010203", "#020304", "#030405", "#040506", "#050607", "#060708"
"""Colours to draw in; each becomes one of the style sheet's."""
NAMES = {INK: "ink", MUTED: "muted", LINE: "line", ACCENT: "accent", SECOND: "second", THIRD: "third"}
WIDTH = 5.0
"""Of a drawing, in inches: a telephone shows such a one with letters that can be read."""
DRAWS = RLock()
"""Held by the thread that draws."""
LONGEST = 28
"""Letters of a name on an axis."""


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


@contextmanager
def drawing() -> Iterator[None]:
    """Where figures are built and written: by one thread at a time, as settings are of the process, and without TeX."""
    import matplotlib as mpl

    with DRAWS, mpl.rc_context({"svg.fonttype": "none", "text.usetex": False}):
        yield


def figure(height: float, columns: int = 1, rows: int = 1, width: float = WIDTH, **sharing: Any) -> tuple[Any, Any]:
    """A figure and its axes, a grid of them where there are several; sizes in inches."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    axes = made.subplots(rows, columns, **sharing)
    for axis in axes.flat if hasattr(axes, "flat") else [axes]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(MUTED)
        axis.tick_params(colors=MUTED, labelsize=8)
        axis.xaxis.label.set(color=INK, size=9)
        axis.yaxis.label.set(color=INK, size=9)
    return made, axes


def name(text: Any) -> str:
    """A name to be written on a drawing."""
    text = " ".join(visible(text).split())
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return text.replace("$", r"\$")  # which would begin a formula


def svg(made: Any, words: str, number: str) -> Markup:
    """A figure as SVG.

    Args:
        made: Of `figure`.
        words: What it shows, for who does not see it.
        number: Another one for each drawing of a page, so that names within them differ.
    """
    import matplotlib as mpl

    for axis in made.axes:
        for legend in [axis.get_legend()] if axis.get_legend() is not None else []:
            for text in legend.get_texts():
                text.set_color(INK)
    buffer = io.StringIO()
    with drawing(), mpl.rc_context({"svg.hashsalt": number}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that matplotlib's font lacks: the reader's has them
        made.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"<[^>]*>", lambda tag: _styled(tag[0], number), text)  # a name that is written is as it was
    return Markup(text.replace("<svg ", f'<svg role="img" aria-label="{escape(visible(words))}" ', 1))


def _styled(tag: str, number: str) -> str:
    """A tag with names that are the drawing's own, and with letters and colours of the style sheet."""
    tag = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{number}-", tag)
    tag = re.sub(r"(font: [^;\"]*?[\d.]+px) [^;\"]*", r"\1 var(--sans)", tag)
    for colour, variable in NAMES.items():
        tag = tag.replace(colour, f"var(--{variable})")
    return tag
