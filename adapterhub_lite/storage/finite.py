"""Looking for NaN and infinity in the bytes of tensors, a chunk at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from adapterhub_lite.errors import AdapterCorruptError
from adapterhub_lite.storage.header import TensorInfo
from adapterhub_lite.storage.plain import read_chunks, read_exactly

_CHUNK = 4 << 20  # bytes, a multiple of every element's size
# The word of one value, its mask, and what the masked word equals or exceeds where the value is not finite. In IEEE
# formats that is every exponent bit set; E4M3 has no infinity and one NaN, E8M0 is an exponent with one NaN.
_NOT_FINITE = {
    "F64": ("<u8", 0x7FF0_0000_0000_0000, 0x7FF0_0000_0000_0000),
    "F32": ("<u4", 0x7F80_0000, 0x7F80_0000),
    "C64": ("<u4", 0x7F80_0000, 0x7F80_0000),
    "F16": ("<u2", 0x7C00, 0x7C00),
    "BF16": ("<u2", 0x7F80, 0x7F80),
    "F8_E5M2": ("u1", 0x7C, 0x7C),
    "F8_E4M3": ("u1", 0x7F, 0x7F),
    "F8_E8M0": ("u1", 0xFF, 0xFF),
}


def check_finite(file: BinaryIO, header: Mapping[str, TensorInfo], path: Path) -> None:
    """Check every number of a safetensors file whose header has been read; needs some 8 MB whatever its size.

    Raises:
        AdapterCorruptError: names the first tensor that holds a NaN or an infinity.
    """
    import numpy as np

    file.seek(0)
    start = 8 + int.from_bytes(read_exactly(file, 8, path), "little")
    for name, tensor in header.items():
        if tensor.dtype not in _NOT_FINITE:
            continue  # integers and booleans
        word, mask, bound = _NOT_FINITE[tensor.dtype]
        file.seek(start + tensor.start)
        for data in read_chunks(file, tensor.end - tensor.start, path, _CHUNK):
            words: Any = np.frombuffer(data, dtype=word)
            if ((words & words.dtype.type(mask)) >= words.dtype.type(bound)).any():
                raise AdapterCorruptError(f"{path}: tensor '{name}' holds values that are not finite; train it again")
