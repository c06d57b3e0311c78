"""What training looks for by itself in less than two seconds, and warns of in at most three lines."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

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
from adapterhub_lite.progress import Progress

SECONDS, ROWS, LINES = 0.6, 10_000, 3
"""For reading a side, of at most so many rows; what is looked for in them takes as long again."""
FEWEST = 100
"""Rows of which shares say something."""


def warn(data: Dataset, held_out: Dataset | None, modality: Modality, progress: Progress) -> None:
    """Say the worst alarms, a line each, and how to read more.

    Args:
        data: Rows to learn from.
        held_out: Rows to score on.
        modality: Of the inputs. Pictures in files are not opened.
        progress: Is told.
    """
    if len(data) < FEWEST or (modality == "image" and any(isinstance(item, (str, Path)) for item in data.inputs[:1])):
        return
    some = _some(data, modality)
    material = Material(some, None if held_out is None else _some(held_out, modality, held_out=True), modality, {})
    alarms = [finding for finding in sorted_findings(list(_looked_for(material))) if finding.level == "alarm"]
    for number, finding in enumerate(alarms[:LINES], start=1):
        more = "" if number < min(len(alarms), LINES) else "; `adapterhub-lite audit` names the rows"
        progress.say(f"warning: {finding.name}: {finding.says}{more}")


def _looked_for(material: Material) -> Iterator[Finding]:
    yield from twins(material, near=False)
    yield from groups_in_both(material)
    yield from balance(material)
    yield from chats(material)
    if material.modality == "text":
        yield personal_data([(side.name, side.personal) for side in material.sides], sum(map(len, material.sides)))


def _some(data: Dataset, modality: Modality, *, held_out: bool = False) -> Side:
    """As many rows, drawn by chance, as can be read in the time."""
    order = np.random.default_rng(0).permutation(len(data))[:ROWS]
    started, size = time.monotonic(), 64
    side = side_of(data.select(np.sort(order[:size]).tolist()), modality, held_out=held_out)
    rate = size / max(time.monotonic() - started, 1e-4)
    if size < len(order):
        rows = np.sort(order[: max(size, int(rate * SECONDS))])
        side = side_of(data.select(rows.tolist()), modality, held_out=held_out)
    return side
