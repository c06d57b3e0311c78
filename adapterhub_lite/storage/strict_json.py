"""JSON read without Python's leniency: no duplicate keys, no NaN, no other encoding than UTF-8."""

from __future__ import annotations

import json
import math
from typing import Any

from adapterhub_lite.errors import AdapterCorruptError
from adapterhub_lite.names import first_repeated

# What bounds the memory a document takes once parsed: a few bytes of text can be a list or dict of hundreds. This is
# room for the header of 100,000 tensors.
_MOST = ((b"{", 150_000), (b"[", 400_000), (b",", 1_000_000))


def parse_json(data: bytes, where: str) -> Any:
    """Parse `data` and return what it holds; two readers can never disagree on what a document that passes means.

    Raises:
        AdapterCorruptError: naming `where` and the reason.
    """
    for sign, most in _MOST:
        if data.count(sign) > most:
            raise AdapterCorruptError(f"{where}: JSON with over {most:,} of '{sign.decode()}'; fetch the adapter anew")
    try:
        # Decoded here because json.loads guesses UTF-16 and UTF-32 when it is given bytes.
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
        )
    except RecursionError:
        raise AdapterCorruptError(f"{where}: JSON nested too deeply; save the adapter again or fetch it anew") from None
    except ValueError as error:  # bad UTF-8, bad JSON, an integer of thousands of digits, and the hooks below
        raise AdapterCorruptError(
            f"{where}: not valid JSON ({error}); save the adapter again or fetch it anew"
        ) from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        twice = first_repeated([key for key, _ in pairs]) or ""
        raise ValueError(f"key {twice[:80]!r} appears twice")
    return document


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"number {text[:20]} is out of range")
    return value
