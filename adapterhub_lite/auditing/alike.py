"""Which rows are nearly the same: texts by MinHash, pictures by perceptual hashes, anything by the angle of features."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence, Set
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterhub_lite.auditing.items import picture_of, plain_words, values_of
from adapterhub_lite.auditing.needs import needed
from adapterhub_lite.data.roles.groups import numbered
from adapterhub_lite.plugins.spec import Modality

SHINGLE, LONG_SHINGLE, LONG = 3, 9, 300
"""Characters that are hashed at a time; of texts of at least so many (the median), which share nearly all short parts."""
BANDS, BAND, CANDIDATE = 12, 4, 0.5
"""A text is hashed in so many bands of so many hashes; Jaccard similarity from which on two texts are looked at."""
CROWD, CLOSEST = 200, 30
"""Of rows that look alike by their hashes so many are compared by these, and so many of them, the closest, whole."""
IN_ORDER = 1_000
"""Characters up to which texts are compared in order, which takes the square of that."""
SAME, SAME_IN_ORDER = 0.8, 0.93
"""Jaccard similarity of shingles, or share of characters that match in order, from which on texts are nearly the same."""
HASH_SIDE, BITS = 16, 20
"""A perceptual hash has so many bits squared; two pictures are looked at that differ in so few."""
LIKE_PIXELS = 0.98
"""Correlation of small grey pictures from which on two are nearly the same."""
CENTRED, FEWEST = 0.9, 50
"""Cosine that is needed of features less their mean too, from so many rows on: those of some bases point all one way."""
ANGLE = {"text": 0.97, "image": 0.985, "series": 0.9995}
"""Cosine of features from which on two rows are nearly the same."""
SMALL = 32
POLITE = frozenset(("please", "pls", "hi", "hello", "hey", "thanks", "thank", "you"))
"""English words that change nothing."""
NUMBER = re.compile(r"\d+")


def alike(
    items: Sequence[Any],
    texts: Sequence[str],
    modality: Modality,
    features: NDArray[np.float32] | None,
    units: NDArray[np.int64] | None = None,
) -> dict[tuple[int, int], str]:
    """Of each row the first one before it that is nearly the same, the smaller position first, with what says so.

    Args:
        items: The inputs.
        texts: The same as texts, where they are texts.
        modality: Of the inputs.
        features: (n, hidden_size), where they are known.
        units: (n,), rows of one are alike by nature and are no pair; by default each row is one of its own.

    Raises:
        ConfigError: datasketch or imagehash is not installed.
        DataError: a picture that cannot be read.
    """
    pairs: dict[tuple[int, int], str] = {}
    units = np.arange(len(items)) if units is None else units
    what, numbers = "features", np.zeros(len(items), dtype=np.int64)
    if modality == "text":
        words = [plain_words(text) for text in texts]
        numbers = np.asarray(numbered([" ".join(_numbers(text)) for text in words]))
        for _, rows in sorted(_rows_by(numbers).items()):
            pairs.update(_texts(words, rows, units))
    elif modality == "image":
        pairs.update(_pictures(items, units))
    elif features is None:
        features, what = _curves(items), "curves"
    if features is not None:
        for pair, cosine in _by_angle(features, ANGLE[modality], units, numbers):
            pairs.setdefault(pair, f"{what} at cosine {cosine:.3f}")
    return pairs


def _rows_by(values: NDArray[np.int64]) -> dict[int, list[int]]:
    rows: dict[int, list[int]] = {}
    for row, value in enumerate(values.tolist()):
        rows.setdefault(value, []).append(row)
    return rows


def _texts(
    words: Sequence[str], rows: Sequence[int], units: NDArray[np.int64]
) -> Iterator[tuple[tuple[int, int], str]]:
    """Pairs of some rows, whose texts have the same numbers."""
    if len(rows) < 2:
        return
    datasketch = needed("datasketch", "datasketch")
    size = LONG_SHINGLE if np.median([len(words[row]) for row in rows]) >= LONG else SHINGLE
    empty = datasketch.MinHash(num_perm=BANDS * BAND, hashfunc=zlib.crc32, scheme="affine32")
    hashes = np.zeros((len(rows), BANDS * BAND), dtype=np.uint64)
    buckets: dict[tuple[int, bytes], list[int]] = {}
    for place, row in enumerate(rows):
        if not words[row]:
            continue
        sketch = empty.copy()
        sketch.update_batch([shingle.encode() for shingle in _shingles(words[row], size)])
        hashes[place] = sketch.digest()
        near: set[int] = set()
        for band in range(BANDS):
            bucket = buckets.setdefault((band, hashes[place, band * BAND : (band + 1) * BAND].tobytes()), [])
            near.update(bucket)
            if len(bucket) < CROWD:
                bucket.append(place)
        others = np.array(sorted(near), dtype=np.int64)
        share = (hashes[others] == hashes[place]).mean(axis=1)
        for other in sorted(others[np.argsort(-share, kind="stable")[:CLOSEST]].tolist()):
            first = rows[other]
            if units[first] != units[row] and words[first] != words[row]:  # equal words are told apart from nearly so
                how = nearly(words[row], words[first], _shingles(words[row], size), _shingles(words[first], size))
                if how:
                    yield (first, row), how
                    break


def nearly(one: str, other: str, shingles: Set[str], others: Set[str]) -> str:
    """How two texts of plain words are nearly the same; "" where they are not. Numbers in them have to be equal."""
    jaccard = len(shingles & others) / len(shingles | others)
    if jaccard < CANDIDATE or _numbers(one) != _numbers(other):
        return ""
    if _bare(one) == _bare(other):
        return "the same but for polite words"
    if jaccard >= SAME:
        return f"{jaccard:.0%} of the parts of both texts"
    if max(len(one), len(other)) > IN_ORDER:
        return ""
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    if min(matcher.real_quick_ratio(), matcher.quick_ratio()) < SAME_IN_ORDER:
        return ""
    ratio = matcher.ratio()
    return f"{ratio:.0%} of the characters in order" if ratio >= SAME_IN_ORDER else ""


def _bare(text: str) -> list[str]:
    return [word for word in text.split() if word not in POLITE]


@lru_cache(maxsize=128)
def _shingles(text: str, size: int) -> frozenset[str]:
    """Made anew when they are needed: those of all rows would be many times the text."""
    padded = f" {text} "
    return frozenset(padded[start : start + size] for start in range(max(1, len(padded) - size + 1)))


def _numbers(text: str) -> list[str]:
    return sorted(NUMBER.findall(text))


def _pictures(items: Sequence[Any], units: NDArray[np.int64]) -> Iterator[tuple[tuple[int, int], str]]:
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
        before = bits[: start + len(block)]
        apart = block.sum(1)[:, None] + before.sum(1)[None] - 2 * block @ before.T
        close = (apart <= BITS) & _earlier(start, units, len(block))
        for row in np.flatnonzero(close.any(axis=1)).tolist():
            firsts = np.flatnonzero(close[row])[:CROWD]
            like = pixels[firsts] @ pixels[start + row]
            best = int((like >= LIKE_PIXELS).argmax())
            if like[best] >= LIKE_PIXELS:
                yield (int(firsts[best]), start + row), f"pictures at correlation {like[best]:.3f}"


def _earlier(start: int, units: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """For rows from `start` on which ones before them can be a twin: (count, start + count)."""
    rows = np.arange(start + count)
    own = slice(start, start + count)
    return np.asarray((rows[own, None] > rows[None]) & (units[own, None] != units[None, : start + count]))


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


def _by_angle(
    features: NDArray[np.float32], least: float, units: NDArray[np.int64], numbers: NDArray[np.int64]
) -> Iterator[tuple[tuple[int, int], float]]:
    unit = _unit(features)
    centred = _unit(features - features.mean(axis=0)) if len(features) >= FEWEST else unit
    for start in range(0, len(unit), 1024):
        own, before = slice(start, start + 1024), slice(0, min(start + 1024, len(unit)))
        cosines = unit[own] @ unit[before].T
        close = (cosines >= least) & (numbers[own, None] == numbers[None, before])
        close &= _earlier(start, units, len(cosines))
        if close.any():
            close &= centred[own] @ centred[before].T >= CENTRED
        for row in np.flatnonzero(close.any(axis=1)).tolist():
            first = int(close[row].argmax())
            yield (first, start + row), float(cosines[row, first])


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12))
