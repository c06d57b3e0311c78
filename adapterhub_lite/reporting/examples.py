"""The rows that are most wrong: what was given, wanted and said. Texts are cut, images made small, series thinned."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from adapterhub_lite.pages.render import cut
from adapterhub_lite.reporting.known import Known
from adapterhub_lite.tasks.task import rows_of

MOST, MOST_LETTERS = 12, 300
SIDE = 112
"""Pixels of the longer side of an image that is shown."""
MOST_STEPS, MOST_CHANNELS = 120, 4


def most_wrong(known: Known, right: Sequence[float] | None) -> list[dict[str, Any]]:
    """The held-out rows that are most wrong: classes by what the wanted one was given, labels and values by the error."""
    data, scored = known.held_out, known.scored
    if data is None or scored is None or scored.rows is None or known.kind == "text":
        return []
    names = (*data.labels, *data.unknown)
    numbers = rows_of(data)
    made = []
    for row, wrong in _worst(known, right):
        target = (data.targets or ())[row]
        wanted: Any = target
        if isinstance(target, tuple | list):
            wanted = ", ".join(names[label] for label in target if 0 <= label < len(names)) or "(none)"
        elif names:
            wanted = names[target]
        one: dict[str, Any] = {"row": numbers[row] + 1, "wanted": wanted, "how_wrong": wrong}
        made.append({**one, **_said(known, row), **shown_input(data.inputs[row])})
    return made


def _worst(known: Known, right: Sequence[float] | None) -> list[tuple[int, float]]:
    """Rows that are wrong, the worst first, and how wrong they are."""
    data, scored = known.held_out, known.scored
    assert data is not None
    assert scored is not None
    assert scored.rows is not None
    logits = scored.rows.outputs.logits
    if known.kind == "value":
        errors = torch.tensor(list(right or ()))
        return [(int(row), float(errors[row])) for row in errors.argsort(descending=True)[:MOST]]
    if known.kind == "tokens":
        return []
    if known.kind == "labels":
        targets = torch.zeros(logits.shape)
        for row, target in enumerate(data.targets or ()):
            targets[row, [label for label in target if label < logits.shape[1]]] = 1.0
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=1)
    else:
        own = torch.tensor([min(int(target), logits.shape[1]) for target in data.targets or ()])
        padded = torch.nn.functional.pad(logits, (0, 1), value=-30.0)  # of a label that is not known
        losses = torch.nn.functional.cross_entropy(padded, own, reduction="none")
    wrong = [row for row, one in enumerate(right or ()) if not one]
    return [(row, float(losses[row])) for row in sorted(wrong, key=lambda row: -float(losses[row]))[:MOST]]


def _said(known: Known, row: int) -> dict[str, Any]:
    """What was said of a row, with the probability of that and of the class that was wanted."""
    assert known.scored is not None
    assert known.scored.rows is not None
    assert known.held_out is not None
    outputs, task = known.scored.rows.outputs, known.task
    logits = outputs.logits[row : row + 1]
    said: Any = task.predictions(logits, outputs.data)[0]
    if known.kind == "value":
        return {"predicted": said.value}
    if known.kind == "labels":
        return {"predicted": ", ".join(said.labels) or "(none)"}
    best = int(logits.argmax())
    target = (known.held_out.targets or ())[row]
    given = said.probabilities.get(known.held_out.labels[target]) if target < len(known.held_out.labels) else None
    return {"predicted": task.labels[best], "probability": said.probability, "probability_wanted": given}


def shown_input(item: Any) -> dict[str, Any]:
    """An input as JSON that a page can show: text, a small image as a `data:` address, or a thinned series."""
    if isinstance(item, str):
        return {"text": cut(item, MOST_LETTERS)}
    if isinstance(item, tuple) and all(isinstance(part, str) for part in item):
        return {"text": "\n— ".join(cut(part, MOST_LETTERS // 2) for part in item)}
    if isinstance(item, np.ndarray) and item.ndim == 2 and item.dtype.kind == "f":
        return {"series": thinned(item)}
    image = opened(item)
    return {"image": address(image)} if image is not None else {"text": cut(item, MOST_LETTERS)}


def thinned(series: np.ndarray[Any, Any]) -> list[list[float | None]]:
    """A series, (time, channels), as a list of a few channels with a few of its steps each; None where nothing is known."""
    steps = np.unique(np.linspace(0, len(series) - 1, min(len(series), MOST_STEPS)).astype(int))
    spread = np.nan_to_num(np.nanstd(series, axis=0))
    channels = np.sort(np.argsort(-spread, kind="stable")[:MOST_CHANNELS])
    return [[float(f"{x:.5g}") if np.isfinite(x) else None for x in series[steps, c].tolist()] for c in channels]


def opened(item: Any) -> Any:
    """A path, encoded bytes, an array or a PIL image as a PIL image in RGB; None where it is no image."""
    from PIL import Image, ImageOps

    try:
        if isinstance(item, Image.Image):
            image = item
        elif isinstance(item, np.ndarray):
            image = Image.fromarray(item[:, :, 0] if item.ndim == 3 and item.shape[2] == 1 else item)
        else:
            image = Image.open(io.BytesIO(item) if isinstance(item, bytes) else item)
        return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, TypeError, AttributeError, Image.DecompressionBombError):
        return None


def address(image: Any) -> str:
    """A small version of a PIL image as a `data:` address."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, format="PNG", optimize=False)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
