"""What the scores do not say, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterhub_lite.pages.content import Content, Part, Points


def limits(facts: Mapping[str, Any]) -> Part:
    """Limits of the adapter and of this report."""
    kind, scored = facts["adapter"]["kind"], bool(facts["metrics"])
    texts = []
    if scored:
        texts.append(
            "The scores are for rows drawn like the held-out ones. Where people write, measure or photograph otherwise, they do "
            "not hold: score it on some rows of yours first."
        )
    if scored and facts["curves"]["evaluations"] and facts["training"].get("best_step") is not None:
        texts.append(
            "The step that was kept, and a temperature where there is one, were chosen on rows that may be those scored on; then "
            "the score is a little optimistic."
        )
    if scored and not facts["data"].get("grouped"):
        texts.append("The intervals take rows for independent. Rows of one person, document or machine are not.")
    if kind in ("class", "labels"):
        texts.append("It answers with one of its labels whatever it is given, also where none fits.")
        texts.append("What is most wrong may be labelled wrong; the report cannot tell the two apart.")
    if kind == "text":
        texts.append(
            "What it writes may be false or offensive. A lower loss says that answers look like those that were shown."
        )
    if facts.get("by_position"):
        texts.append("Loss by place and answers are of a few held-out rows, as many as there was time for.")
    texts.append("What the base has learnt wrongly, biases included, the adapter has too.")
    content: list[Content] = [Points(texts)]
    if facts["left_out"]:
        content.append(Points([f"Left out: {one}." for one in facts["left_out"]]))
    return Part("Limits", (), content)
