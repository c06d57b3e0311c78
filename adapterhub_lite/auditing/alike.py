"""Which rows are nearly the same: texts by MinHash, pictures by perceptual hashes, anything by the angle of features."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterhub_lite.auditing.items import picture_of, plain_words, values_of
from adapterhub_lite.auditing.needs import needed
from adapterhub_lite.plugins.spec import Modality

SHINGLE, PERMUTATIONS, CANDIDATE = 3, 48, 0.5
"""Characters that are hashed at a time; hashes of a text; Jaccard similarity from which on two texts are looked at."""
SAME, SAME_IN_ORDER = 0.8, 0.93
"""Jaccard similarity of shingles, or share of characters that match in order, from which on texts are nearly the same."""
HASH_SIDE, BITS = 16, 20
"""A perceptual hash has so many bits squared; two pictures are looked at that differ in so few."""
LIKE_PIXELS = 0.98
"""Correlation of small grey pictures from which on two are nearly the same."""
ANGLE = {"text": 0.97, "image": 0.985, "series": 0.9995}
"""Cosine of features from which on two rows are nearly the same."""
SMALL = 32
POLITE = frozenset(("please", "pls", "hi", "hello", "hey", "thanks", "thank", "you"))
"""English words that change nothing."""
NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Pair:
    """Two rows that are nearly the same, by their positions among all that were compared."""

    first: int
    second: int
    how: str


def alike(
    items: Sequence[Any], texts: Sequence[str], modality: Modality, features: NDArray[np.float32] | None
) -> dict[tuple[int, int], str]:
    """Pairs of rows that are nearly the same, the smaller position first, with what says so.

    Args:
        items: The inputs.
        texts: The same as texts, where they are texts.
        modality: Of the inputs.
        features: (n, hidden_size), where they are known.

    Raises:
        ConfigError: datasketch or imagehash is not installed.
    """
    pairs: dict[tuple[int, int], str] = {}
    what = "features"
    words = [plain_words(text) for text in texts] if modality == "text" else []
    if modality == "text":
        pairs.update(_texts(words))
    elif modality == "image":
        pairs.update(_pictures(items))
    elif features is None:
        features, what = _curves(items), "curves"
    if features is not None:
        for (first, second), cosine in _by_angle(features, ANGLE[modality]):
            if modality != "text" or _numbers(words[first]) == _numbers(words[second]):
                pairs.setdefault((first, second), f"{what} at cosine {cosine:.3f}")
    return pairs


def _texts(words: Sequence[str]) -> Iterator[tuple[tuple[int, int], str]]:
    datasketch = needed("datasketch", "datasketch")
    shingles = [_shingles(text) for text in words]
    empty = datasketch.MinHash(num_perm=PERMUTATIONS, hashfunc=zlib.crc32, scheme="affine32")
    index = datasketch.MinHashLSH(threshold=CANDIDATE, num_perm=PERMUTATIONS)
    seen: dict[str, int] = {}
    for row, text in enumerate(words):
        if text in seen or not text:
            continue  # what is equal in words is told apart from what is nearly so
        sketch = empty.copy()
        sketch.update_batch([shingle.encode() for shingle in shingles[row]])
        for other in index.query(sketch):
            if how := nearly(text, words[other], shingles[row], shingles[other]):
                yield (other, row), how
        index.insert(row, sketch, check_duplication=False)
        seen[text] = row


def nearly(one: str, other: str, shingles: set[str], others: set[str]) -> str:
    """How two texts of plain words are nearly the same; "" where they are not. Numbers in them have to be equal."""
    jaccard = len(shingles & others) / len(shingles | others)
    if jaccard < CANDIDATE or _numbers(one) != _numbers(other):
        return ""
    if _bare(one) == _bare(other):
        return "the same but for polite words"
    if jaccard >= SAME:
        return f"{jaccard:.0%} of the parts of both texts"
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    if matcher.real_quick_ratio() >= SAME_IN_ORDER and matcher.ratio() >= SAME_IN_ORDER:
        return f"{matcher.ratio():.0%} of the characters in order"
    return ""


def _bare(text: str) -> list[str]:
    return [word for word in text.split() if word not in POLITE]


def _shingles(text: str) -> set[str]:
    padded = f" {text} "
    return {padded[start : start + SHINGLE] for start in range(max(1, len(padded) - SHINGLE + 1))}


def _numbers(text: str) -> list[str]:
    return sorted(NUMBER.findall(text))


def _pictures(items: Sequence[Any]) -> Iterator[tuple[tuple[int, int], str]]:
    imagehash = needed("imagehash", "imagehash")
    hashes, small = [], []
    for item in items:
        picture = picture_of(item)
        hashes.append(imagehash.phash(picture, hash_size=HASH_SIDE).hash.flatten())
        grey = np.asarray(picture.convert("L").resize((SMALL, SMALL)), dtype=np.float32).flatten()
        small.append((grey - grey.mean()) / max(float(grey.std()), 1e-6))
    bits, pixels = np.stack(hashes).astype(np.float32), np.stack(small) / SMALL
    for start in range(0, len(bits), 1024):
        block = bits[start : start + 1024]
        apart = block.sum(1)[:, None] + bits.sum(1)[None] - 2 * block @ bits.T
        for first, second in np.argwhere(apart <= BITS).tolist():
            if start + first < second:
                like = float(pixels[start + first] @ pixels[second])
                if like >= LIKE_PIXELS:
                    yield (start + first, second), f"pictures at correlation {like:.3f}"


def _curves(items: Sequence[Any]) -> NDArray[np.float32]:
    """Series of any length as rows of numbers: each channel at as many points, less its mean, in units of its spread."""
    rows = []
    for item in items:
        values = values_of(item).astype(np.float32).reshape(len(item), -1)  # (time, channels)
        rows.append(np.nan_to_num(values[np.linspace(0, len(values) - 1, SMALL).round().astype(int)]))
    if len({row.shape for row in rows}) > 1:
        return np.zeros((len(rows), 1), dtype=np.float32)
    curves = np.stack(rows)  # (n, points, channels)
    mean, spread = curves.mean(axis=(0, 1)), curves.std(axis=(0, 1))
    known = spread > 1e-6 * np.maximum(np.abs(mean), 1e-6)  # a constant channel says nothing
    return np.asarray(((curves - mean) / np.where(known, spread, 1.0) * known).reshape(len(rows), -1))


def _by_angle(features: NDArray[np.float32], least: float) -> Iterator[tuple[tuple[int, int], float]]:
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    for start in range(0, len(unit), 1024):
        cosines = unit[start : start + 1024] @ unit[start:].T
        for first, second in np.argwhere(cosines >= least).tolist():
            if first < second:
                yield (start + first, start + second), float(cosines[first, second])
