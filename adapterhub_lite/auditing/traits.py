"""What can be seen of an input without reading it: length and case of a text, size and border of a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterhub_lite.auditing.items import file_size, picture_of, text_of, values_of
from adapterhub_lite.plugins.spec import Modality

OF_TEXT = ("length", "words", "case", "first letter's case", "last character")
OF_IMAGE = ("file size", "width", "height", *(f"border {colour}" for colour in ("red", "green", "blue", "spread")))
OF_SERIES = ("length",)


class Traits:
    """The traits of all rows, which are nan where a row was not looked at.

    Args:
        modality: Of the inputs.
        n: Rows.
    """

    def __init__(self, modality: Modality, n: int):
        self._modality = modality
        self.names = {"text": OF_TEXT, "image": OF_IMAGE}.get(modality, OF_SERIES)
        self.values: NDArray[np.float32] = np.full((n, len(self.names)), np.nan, dtype=np.float32)

    def read(self, row: int, item: Any, sampled: bool) -> None:
        """Look at one input; pictures are opened where they are in the sample alone."""
        if self._modality == "text":
            self.values[row] = _of_text(text_of(item))
        elif self._modality != "image":
            self.values[row] = len(values_of(item))
        elif sampled:
            self.values[row] = _of_image(item)


def traits_of(modality: Modality, n: int) -> Traits:
    """An empty table of traits for `n` inputs."""
    return Traits(modality, n)


def _of_text(text: str) -> tuple[float, ...]:
    letters = sum(map(str.isalpha, text))
    capitals = sum(map(str.isupper, text))
    last = text.rstrip()[-1:]
    return (
        len(text), text.count(" ") + 1, capitals / max(1, letters), float(text[:1].isupper()),
        0.0 if last.isalnum() else float(ord(last or " ") % 128),
    )  # fmt: skip


def _of_image(item: Any) -> tuple[float, ...]:
    image = picture_of(item)
    pixels = np.asarray(image, dtype=np.float32)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return (file_size(item), *image.size, *border.mean(axis=0).tolist(), float(border.std()))
