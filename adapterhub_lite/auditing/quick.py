"""What training looks for by itself in less than two seconds, and warns of in at most three lines."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from adapterhub_lite.auditing.balance import balance
from adapterhub_lite.auditing.chats import chats
from adapterhub_lite.auditing.finding import Finding
from adapterhub_lite.auditing.material import Material, Side, side_of
from adapterhub_lite.auditing.outcome import sorted_findings
from adapterhub_lite.auditing.personal import personal_data
from adapterhub_lite.auditing.splits import groups_in_both
from adapterhub_lite.auditing.twins import twins
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.plugins.spec import Modality
from adapterhub_lite.progress import Progress, Silent, log

SECONDS, ROWS, LINES = 0.6, 10_000, 3
"""For reading a side, of at most so many rows; what is looked for in them takes as long again."""
FIRST = 4
"""Rows that the time is estimated from at first."""
FEWEST = 100
"""Rows of which shares say something."""


def warn(data: Dataset, held_out: Dataset | None, modality: Modality, progress: Progress) -> None:
    """Say the worst alarms, a line each, and how to read more; whatever fails here ends no training.

    Args:
        data: Rows to learn from.
        held_out: Rows to score on.
        modality: Of the inputs. Pictures that have to be decoded are not looked at.
        progress: Is told; for one that says nothing, nothing is done.
    """
    if isinstance(progress, Silent):
        return
    try:
        alarms = _alarms(data, held_out, modality)
    except Exception:  # a look that nobody asked for; what is wrong with the data is said where it is used
        log.debug("the quick look at %s failed", data.source, exc_info=True)
        return
    for number, finding in enumerate(alarms[:LINES], start=1):
        more = "" if number < min(len(alarms), LINES) else "; `adapterhub-lite audit` names the rows"
        progress.say(f"warning: {finding.name}: {finding.says}{more}")


def _alarms(data: Dataset, held_out: Dataset | None, modality: Modality) -> list[Finding]:
    if len(data) < FEWEST or (modality == "image" and not isinstance(data.inputs[0], np.ndarray)):
        return []
    some = _some(data, modality)
    if len(some) < FEWEST:
        return []
    material = Material(some, None if held_out is None else _some(held_out, modality, held_out=True), modality, {})
    return [finding for finding in sorted_findings(list(_looked_for(material, data))) if finding.level == "alarm"]


def _looked_for(material: Material, data: Dataset) -> Iterator[Finding]:
    yield from twins(material, near=False)
    yield from groups_in_both(material)
    # Classes are counted in all rows: in some of them any class may look rare.
    yield from balance(replace(material, data=replace(material.data, dataset=data)))
    yield from chats(material)
    if material.modality == "text":
        yield personal_data([(side.name, side.personal) for side in material.sides], sum(map(len, material.sides)))


def _some(data: Dataset, modality: Modality, *, held_out: bool = False) -> Side:
    """As many rows, drawn by chance, as can be read in the time."""
    order = np.random.default_rng(0).permutation(len(data))[:ROWS]
    size = min(FIRST, len(order))
    while True:
        started = time.monotonic()
        side = side_of(data.select(np.sort(order[:size]).tolist()), modality, held_out=held_out)
        spent = max(time.monotonic() - started, 1e-4)
        if size == len(order) or spent > SECONDS / 4:
            return side
        size = min(len(order), int(size * min(16.0, SECONDS / spent)))
