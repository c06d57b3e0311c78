"""Rows for a reader to look at: the most wrong ones, images with what an answer hangs on, answers before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterhub_lite.pages.content import Card, Cards, Part
from adapterhub_lite.pages.render import cut
from adapterhub_lite.reporting.pictures import line

LONGEST = 120
"""Letters of a label."""


def most_wrong(facts: Mapping[str, Any]) -> Part | None:
    """Cards of the rows that are most wrong."""
    told = facts.get("examples")
    if not told:
        return None
    cards = []
    for one in told:
        lines = [("wanted", _text(one["wanted"])), ("predicted", _text(one.get("predicted")))]
        if one.get("probability") is not None:
            wanted = one.get("probability_wanted")
            given = f"{one['probability']:.1%}" + (f"; {wanted:.1%} for the wanted" if wanted is not None else "")
            lines.append(("probability", given))
        cards.append(
            Card(
                f"Row {one['row']:,}",
                lines,
                text=one.get("text"),
                images=[(one["image"], f"Row {one['row']}")] if one.get("image") else (),
                svg=line(one["series"]) if one.get("series") else None,
            )
        )
    by = "the largest error" if facts["adapter"]["kind"] == "value" else "the least probability for what was wanted"
    say = [
        f"Held-out rows with {by} come first. Look at the labels too: the model may be right, and the label wrong.",
        "Rows of the data are shown here; --no-examples makes a page without them.",
    ]
    return Part("Most wrong", say, [Cards(cards)])


def saliency(facts: Mapping[str, Any]) -> Part | None:
    """Images beside a map of which part of them the answer hangs on."""
    told = facts.get("saliency")
    if not told:
        return None
    cards = [
        Card(
            f"Row {one['row']:,}",
            [
                ("predicted", f"{one['predicted']}, {one['probability']:.1%}"),
                ("wanted", one["wanted"]),
                ("largest fall", f"{one['largest_fall']:.1%}"),
            ],
            images=[
                (one["image"], f"Row {one['row']}"),
                (one["heat"], f"Row {one['row']}, what the answer hangs on in red"),
            ],
        )
        for one in told
    ]
    grid = told[0]["grid"]
    say = [
        f"By occlusion: a grey square is put on each place of a grid of {grid} by {grid}, and red is where the probability "
        "of the predicted class falls, scaled for each image. Where the largest fall is small, no single square matters. It says "
        "what matters to the model, not what should."
    ]
    return Part("What answers hang on", say, [Cards(cards)])


def answers(facts: Mapping[str, Any]) -> Part | None:
    """What a language model answered before and answers after."""
    told = facts.get("answers")
    if not told:
        return None
    cards = [
        Card(
            f"Row {one['row']:,}",
            [("before", one["bare"]), ("after", one["adapted"]), ("wanted", one["wanted"])],
            text=one["prompt"],
        )
        for one in told
    ]
    say = [f"The likeliest token each time, cut after {told[0]['tokens']} tokens. The rows are held out."]
    return Part("Answers", say, [Cards(cards)])


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:,.4g}" if isinstance(value, float) else cut(value, LONGEST)
