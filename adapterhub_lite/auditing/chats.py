"""Faults of prompts and answers: empty, cut off, repeated, refused, with marks of a template, or known beforehand."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from adapterhub_lite.auditing.finding import DATA, Finding, Level, Row, fine
from adapterhub_lite.auditing.items import plain_words, turns_of
from adapterhub_lite.auditing.material import Material

REFUSAL = re.compile(
    r"\bas an ai\b|\bi(?:['’]?m| am) (?:just |only )?an ai\b"
    r"|\bi(?:['’]?m| am) (?:sorry|afraid),? (?:but )?(?:i|we|that)\b.{0,40}?\b(?:can(?:no|['’])?t|unable|not able)"
    r"|\bi (?:cannot|can['’]t|am unable to|won['’]t) (?:help|assist|comply|fulfil|provide|do that)",
    re.IGNORECASE,
)
MARKS = re.compile(
    r"<\|[\w ]{1,30}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|<eos>|<bos>"
    r"|^#{2,3} ?(?:Instruction|Response|Input)s?:|^(?:Human|Assistant|User): |\{\{ ?\w+ ?\}\}",
    re.MULTILINE,
)
ENDS = tuple(".!?…:;\"'”’)]}>`*|。！？")
LONG, SOME_WORDS, COPIES = 200, 5, 5
"""Characters of an answer that ought to end in a sentence; words that are no coincidence; times an answer may come."""
LEVEL = {"refused answers": 0.01, "cut-off answers": 0.01, "repeated answers": 0.05}
"""Shares of the rows from which on some of these are an alarm; all others are from the first row on."""


def chats(material: Material) -> list[Finding]:
    """All faults of the rows at hand; nothing where they have no prompts and answers."""
    data = material.data
    turns = [turns_of(item) for item in data.items]
    if not any(answer for _, answer in turns):
        return []
    words = [(plain_words(asked), plain_words(answer)) for asked, answer in turns]
    times: dict[str, int] = {}
    for _, answer in words:
        times[answer] = times.get(answer, 0) + 1
    faults: dict[str, tuple[Callable[[int], bool], str]] = {
        "empty answers": (lambda row: not words[row][1], "write them, or leave the rows out"),
        "cut-off answers": (lambda row: _is_cut(turns[row][1]), "complete them: a model learns to stop in the middle"),
        "repeated answers": (
            lambda row: times[words[row][1]] >= COPIES and words[row][1].count(" ") + 1 >= SOME_WORDS,
            "keep a few of each: a model learns to answer so whatever it is asked",
        ),
        "refused answers": (lambda row: bool(REFUSAL.search(turns[row][1])), "leave out those that are not wanted"),
        "marks of a template": (lambda row: bool(MARKS.search(turns[row][1])), "remove them: the template writes its own"),
        "answers in the prompt": (
            lambda row: is_given(*turns[row]), "take the answer out of the prompt: a model learns to copy, and scores too well"
        ),
    }  # fmt: skip
    dropped = {"empty answers", "marks of a template", "answers in the prompt"}
    told = [_fault(material, name, is_faulty, advice, name in dropped) for name, (is_faulty, advice) in faults.items()]
    return [*told, _lengths([len(answer) for _, answer in turns])]


def _fault(material: Material, name: str, is_faulty: Callable[[int], bool], advice: str, drops: bool) -> Finding:
    places = material.data.sampled
    rows = [Row(DATA, int(place)) for number, place in enumerate(places) if is_faulty(number)]
    share = len(rows) / len(places)
    if not rows:
        return fine(name, f"none in {len(places):,} rows")
    level: Level = "alarm" if share >= LEVEL.get(name, 0.0) else "note"
    says = f"{len(rows):,} of {len(places):,} rows ({share:.1%})"
    return Finding(name, level, says, advice, rows, len(rows), drops=drops)


def is_given(asked: str, answer: str) -> bool:
    """Whether a prompt has the whole answer in it, of some words, as it is written: to correct its case is a task."""
    words = answer.split()
    return len(words) >= SOME_WORDS and " ".join(words) in " ".join(asked.split())


def _is_cut(answer: str) -> bool:
    text = answer.rstrip()
    return len(text) >= LONG and not text.endswith(ENDS) and text[-1:].isalpha() and "\n" not in text[-80:]


def _lengths(lengths: Sequence[int]) -> Finding:
    middle, longest = float(np.median(lengths)), max(lengths)
    ordered = np.sort(lengths)[::-1]
    top = float(ordered[: max(1, len(ordered) // 100)].sum() / max(1, ordered.sum()))
    says = f"the longest answer has {longest:,} characters, the middle one {middle:,.0f}; the longest hundredth holds {top:.0%}"
    if top < 0.25 or len(lengths) < 100:
        return fine("unequal lengths", says)
    advice = "most of what is learnt is of few rows: cut or split them"
    return Finding("unequal lengths", "alarm", says, advice)
