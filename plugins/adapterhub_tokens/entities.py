"""Spans of tagged words, as conlleval and seqeval read them, and scores of whole spans.

Source: Tjong Kim Sang and De Meulder 2003 (CoNLL-2003), whose script conlleval is what seqeval 1.2 follows by default.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

PREFIXED = re.compile(r"[BIES]-.+")
OUTSIDE = "O"


class Span(NamedTuple):
    """A run of words that belong together."""

    kind: str
    start: int
    """Its first word, counted from 0."""
    end: int
    """The word after its last."""


def are_spans(labels: Sequence[str]) -> bool:
    """Whether tags mark spans: each is O or has one of the prefixes B-, I-, E- and S-."""
    return any(map(PREFIXED.fullmatch, labels)) and all(tag == OUTSIDE or PREFIXED.fullmatch(tag) for tag in labels)


def spans(tags: Sequence[str | None]) -> list[Span]:
    """The spans of a sentence; a word without a tag is outside of all of them.

    A span that begins with I-, as in IOB1 or where a model is wrong, counts.
    """
    ended: list[Span] = []
    start, before, kind_before = 0, OUTSIDE, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        prefix, _, kind = (tag or OUTSIDE).partition("-")
        inside = before != OUTSIDE
        if inside and (before in "ES" or prefix in "BSO" or kind != kind_before):
            ended.append(Span(kind_before, start, place))
            inside = False
        if prefix != OUTSIDE and not inside:
            start = place
        before, kind_before = prefix, kind
    return ended


def f1(hits: float, said: float, true: float) -> tuple[float, float, float]:
    """Precision, recall and F1 of spans; 0 where there is nothing to divide by, as in seqeval."""
    precision = hits / said if said else 0.0
    recall = hits / true if true else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0


def kinds_of(labels: Sequence[str]) -> list[str]:
    """What spans are of, such as PER and LOC, in the order of the tags."""
    return list(dict.fromkeys(label.partition("-")[2] for label in labels if label != OUTSIDE))
