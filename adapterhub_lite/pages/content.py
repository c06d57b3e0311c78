"""What a page is made of: a head of a few lines, and parts with paragraphs, tables, pictures and cards. Text is text here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Cell = str | int | float | None
"""None is shown as a dash."""


@dataclass(frozen=True)
class Shade:
    """A cell with a coloured ground."""

    text: Cell
    share: float
    """How much colour, from 0 to 1."""
    good: bool = True


@dataclass(frozen=True)
class Table:
    """A table, whose first column names the rows."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | Shade]]
    kind = "table"


@dataclass(frozen=True)
class Picture:
    """A drawing, as the SVG that `adapterhub_lite.pages.drawing` gives: the only content that is not text."""

    svg: str
    caption: str
    wide: bool = False
    kind = "picture"


@dataclass(frozen=True)
class Card:
    """One example: what was given, and what was made of it."""

    title: str
    lines: Sequence[tuple[str, str]] = ()
    """What they are about, and what they say."""
    text: str | None = None
    """What was given, where it is text."""
    images: Sequence[tuple[str, str]] = ()
    """Each as a `data:` address, and in words."""
    svg: str | None = None


@dataclass(frozen=True)
class Cards:
    """Examples beside each other."""

    cards: Sequence[Card]
    kind = "cards"


@dataclass(frozen=True)
class Listing:
    """Lines of a file or a command, as they are."""

    caption: str
    text: str
    kind = "listing"


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    texts: Sequence[str]
    kind = "points"


Content = Table | Picture | Cards | Listing | Points


@dataclass(frozen=True)
class Part:
    """A part of a page."""

    title: str
    say: Sequence[str] = ()
    """Paragraphs in front."""
    content: Sequence[Content] = ()


@dataclass(frozen=True)
class Page:
    """A page; the lines of its head are what a hurried reader takes away."""

    title: str
    subtitle: str
    lead: Sequence[tuple[str, str]]
    """What each line is about, and what it says."""
    parts: Sequence[Part]
    warned: bool = False
    """The last line of the head is a warning."""
    foot: str = ""
