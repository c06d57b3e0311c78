"""What an input is without a model: its text, its picture, and a key that equal inputs share."""

from __future__ import annotations

import hashlib
import io
import os
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BETWEEN = "\n"
WORD = re.compile(r"\w+")


def text_of(item: Any) -> str:
    """All text of an input: a text, a pair of texts, words, a prompt with its completion, or the turns of a chat."""
    if isinstance(item, str):
        return item
    asked, answer = turns_of(item)
    if asked or answer:
        return f"{asked}{BETWEEN}{answer}"
    if isinstance(item, (tuple, list)):
        return (BETWEEN if len(item) == 2 else " ").join(map(text_of, item))
    return str(getattr(item, "text", ""))


def turns_of(item: Any) -> tuple[str, str]:
    """What is given and what is to be learnt of an input of a language model; both "" of any other input."""
    if hasattr(item, "prompt") and hasattr(item, "completion"):
        return item.prompt, item.completion
    messages = getattr(item, "messages", ())
    learnt = [m.role == "assistant" and m.learnt for m in messages]
    asked = BETWEEN.join(m.content for m, is_learnt in zip(messages, learnt, strict=True) if not is_learnt)
    return asked, BETWEEN.join(m.content for m, is_learnt in zip(messages, learnt, strict=True) if is_learnt)


def plain_words(text: str) -> str:
    """A text without case, punctuation and white space, as words with single blanks."""
    return " ".join(WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def key_of(item: Any, modality: str) -> int:
    """A number that inputs of the same words, bytes or values share; 63 bits."""
    if modality == "text":
        text = text_of(item)
        content = (plain_words(text) or text).encode("utf-8", "surrogatepass")
    elif isinstance(item, (str, os.PathLike)):
        content = Path(item).read_bytes()
    elif isinstance(item, bytes):
        content = item
    else:
        array = values_of(item)
        content = f"{array.shape}".encode() + array.tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") >> 1


def values_of(item: Any) -> NDArray[Any]:
    """The numbers of a series or of an image in memory."""
    return np.ascontiguousarray(np.asarray(getattr(item, "values", item)))


def picture_of(item: Any) -> Any:
    """An image as Pillow opens it, in RGB, not larger than what is looked at."""
    from PIL import Image

    if isinstance(item, np.ndarray):
        image = Image.fromarray(item[:, :, 0] if item.ndim == 3 and item.shape[2] == 1 else item)
    elif isinstance(item, Image.Image):
        image = item
    else:
        image = Image.open(io.BytesIO(item) if isinstance(item, bytes) else item)
        image.draft("RGB", (256, 256))
    return image.convert("RGB")


def file_size(item: Any) -> int:
    """Bytes of an image's file; 0 of one that is in memory."""
    if isinstance(item, bytes):
        return len(item)
    return Path(item).stat().st_size if isinstance(item, (str, os.PathLike)) else 0
