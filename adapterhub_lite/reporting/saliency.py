"""Which part of an image an answer hangs on, by occlusion: a grey square is put on each part in turn.

Source: Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks (arXiv:1311.2901), section 4.2. How much
the probability of the class falls says that the part matters to the model, not that it should.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.roles.columns import counted
from adapterhub_lite.evaluation.predictions import outputs_of
from adapterhub_lite.progress import Silent
from adapterhub_lite.reporting.examples import SIDE, address, opened
from adapterhub_lite.reporting.known import Known
from adapterhub_lite.tasks.task import rows_of

IMAGES, GRID, LEAST_GRID = 6, 7, 4
GREY = 127


def saliency(known: Known) -> list[dict[str, Any]]:
    """Some held-out images, right and wrong ones, with how much of the probability each square of a grid is worth."""
    data, scored = known.held_out, known.scored
    if known.task.modality != "image" or known.kind != "class" or data is None or scored is None or scored.rows is None:
        return []
    p = scored.rows.outputs.logits.softmax(dim=1)
    best = p.argmax(dim=1).tolist()
    images = {row: opened(data.inputs[row]) for row in _chosen(best, list(data.targets or ()))}
    chosen = [row for row, image in images.items() if image is not None]
    if len(chosen) < len(images):
        known.left_out.append(f"{counted(len(images) - len(chosen), 'image')} that cannot be opened again")
    if not chosen:
        return []
    before = known.seconds_left
    _probabilities(known, data, [images[chosen[0]]])
    a_run = max(1e-4, before - known.seconds_left)
    grid = min(GRID, int((known.seconds_left / a_run / max(1, len(chosen))) ** 0.5))
    if grid < LEAST_GRID:
        known.left_out.append("which part of an image an answer hangs on would take longer to find than the report may")
        return []
    made = []
    for row in chosen:
        image = images[row]
        if known.seconds_left < 0:
            continue
        covered = [_covered(image, grid, place) for place in range(grid * grid)]
        falls = float(p[row, best[row]]) - _probabilities(known, data, covered)[:, best[row]]
        heat = np.clip(falls.reshape(grid, grid), 0, None)
        target = (data.targets or ())[row]
        made.append({
            "row": rows_of(data)[row] + 1,
            "predicted": data.labels[best[row]],
            "wanted": (*data.labels, *data.unknown)[target],
            "probability": float(p[row, best[row]]),
            "largest_fall": float(heat.max()),
            "grid": grid,
            "image": address(image),
            "heat": address(_overlaid(image, heat)),
        })  # fmt: skip
    return made


def _chosen(best: list[int], targets: list[Any]) -> list[int]:
    """Rows to look at: wrong ones, and one that is right of each class, as many of both as there are places."""
    wrong = [row for row, said in enumerate(best) if said != targets[row]]
    right = list({said: row for row, said in reversed(list(enumerate(best))) if said == targets[row]}.values())
    half = IMAGES // 2
    return [*right[: max(half, IMAGES - len(wrong))], *wrong[: max(half, IMAGES - len(right))]][:IMAGES]


def _probabilities(known: Known, data: Dataset, images: list[Any]) -> np.ndarray[Any, Any]:
    """(images, classes)"""
    rows = replace(data, inputs=tuple(images), targets=None, table=None, groups=None, notes=())
    with known.adapter.attachment.at_work():
        logits = outputs_of(known.adapter.attachment, rows, Silent()).logits
    probabilities: np.ndarray[Any, Any] = logits.softmax(dim=1).numpy()
    return probabilities


def _covered(image: Any, grid: int, place: int) -> Any:
    """The image with a grey square on one place of the grid."""
    width, height = image.size
    row, column = divmod(place, grid)
    box = (
        width * column // grid, height * row // grid,
        max(1 + width * column // grid, width * (column + 1) // grid),
        max(1 + height * row // grid, height * (row + 1) // grid),
    )  # fmt: skip
    covered = image.copy()
    covered.paste((GREY, GREY, GREY), box)
    return covered


def _overlaid(image: Any, heat: np.ndarray[Any, Any]) -> Any:
    """The image in grey, with red where it matters."""
    from PIL import Image

    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    strength = (255 * 0.7 * heat / max(1e-9, float(heat.max()))).astype(np.uint8)
    mask = Image.fromarray(strength).resize(small.size, Image.Resampling.BILINEAR)
    grey = small.convert("L").convert("RGB")
    return Image.composite(Image.new("RGB", small.size, (215, 48, 20)), grey, mask)
