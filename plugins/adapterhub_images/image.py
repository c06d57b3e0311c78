"""One image, from a file, bytes or an array, as 8-bit RGB."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from adapterhub_lite.api import DataError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")

LARGEST = 89_478_485
"""Pixels; from here on Pillow warns that a small file may unpack to more than there is memory."""

# What Pillow's readers raise for files that are damaged or no images; a RuntimeError comes from AVIF and DDS.
UNREADABLE = (OSError, ValueError, SyntaxError, TypeError, EOFError, RuntimeError)


class ImageBytes(bytes):
    """An encoded image and the place it was read from, to name in errors that show only when its pixels are read."""

    where: str


def check_image(item: Path | bytes | BinaryIO) -> str | None:
    """Read the header of an image, without decoding it, and say what is wrong with it; None where nothing is wrong."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(item) if isinstance(item, bytes) else item) as image:
            return _too_large(image)
    except Image.DecompressionBombError:
        return f"has more than {2 * LARGEST:,} pixels; make it smaller"
    except UNREADABLE as error:
        return f"is not a readable image ({_reason(error)}); replace or remove it"


def open_image(item: Any) -> Image.Image:
    """Open a path, encoded bytes, a uint8 array (h, w[, 1, 3 or 4]) or a PIL image as RGB.

    The rotation that a camera recorded is applied, transparency is put on white, integers beyond 8 bits are taken as
    16-bit, floats as 0..1 (or 0..255 where they go beyond 1), and of an animation the first frame. Raises DataError,
    naming the path or the row, for anything unreadable.
    """
    from PIL import Image, ImageOps

    name = str(item) if isinstance(item, (str, os.PathLike)) else f"<image {type(item).__name__}>"
    name = item.where if isinstance(item, ImageBytes) else name
    try:
        if isinstance(item, np.ndarray):
            return _rgb(_from_array(item))
        if isinstance(item, Image.Image):
            return _rgb(ImageOps.exif_transpose(item))
        with Image.open(io.BytesIO(item) if isinstance(item, bytes) else Path(item)) as image:
            wrong = _too_large(image)
            if wrong is not None:
                raise DataError(f"{name}: {wrong}")
            image.load()
            return _rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: has more than {2 * LARGEST:,} pixels; make it smaller") from error
    except UNREADABLE as error:
        raise DataError(f"{name}: not a readable image ({_reason(error)}); replace or remove it") from error


def _too_large(image: Image.Image) -> str | None:
    width, height = image.size
    return (
        f"has {width} x {height} pixels, more than {LARGEST:,}; make it smaller" if width * height > LARGEST else None
    )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _from_array(array: np.ndarray[Any, Any]) -> Image.Image:
    from PIL import Image

    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ValueError(f"array is {array.dtype} {array.shape}, not uint8 (h, w), (h, w, 1), (h, w, 3) or (h, w, 4)")
    if not array.size:
        raise ValueError(f"array of shape {array.shape} has no pixel")
    return Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def _rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    # Never by the brightest pixel of integers: two images of one camera must be scaled alike.
    if image.mode.startswith("I"):
        image = Image.fromarray(_to_8_bits(np.asarray(image), 65535.0))
    elif image.mode == "F":
        values = np.nan_to_num(np.asarray(image))
        image = Image.fromarray(_to_8_bits(values, 1.0 if values.max(initial=0.0) <= 1 else 255.0))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _to_8_bits(values: np.ndarray[Any, Any], top: float) -> np.ndarray[Any, Any]:
    return np.clip(np.round(values.astype(np.float64) / top * 255.0), 0, 255).astype(np.uint8)
