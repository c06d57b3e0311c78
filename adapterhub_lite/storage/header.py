"""A strict reader of safetensors headers, used before any library is given the file.

The format: https://github.com/huggingface/safetensors#format. Eight bytes with the length of the header, little endian;
the header, a JSON object; the data, which the tensors cover without overlap or hole.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from adapterhub_lite.errors import AdapterCorruptError
from adapterhub_lite.storage.plain import open_plain, read_exactly, size_of
from adapterhub_lite.storage.strict_json import parse_json

MAX_HEADER_BYTES = 10 << 20
MAX_TENSORS = 100_000
_MAX_DIMENSIONS = 64
METADATA = "__metadata__"
"""The one name in the header that is no tensor's."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_MAX_ELEMENTS = 2**63 - 1

DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
"""Bytes of one element of each dtype, by the name the format gives it."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a file: `start` and `end` are byte offsets into the data that follows the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(
    path: Path, *, max_header_bytes: int = MAX_HEADER_BYTES, max_tensors: int = MAX_TENSORS
) -> dict[str, TensorInfo]:
    """Return the tensors of a safetensors file by name, in the order of their data, without reading the data.

    Raises:
        AdapterCorruptError: for anything that is not exactly such a file; names the file, the tensor and the reason.
    """
    with open_plain(path) as file:
        return parse_header(file, size_of(file), path, max_header_bytes=max_header_bytes, max_tensors=max_tensors)


def header_of(data: bytes, path: Path) -> dict[str, TensorInfo]:
    """Return what `read_header` returns for a file with these bytes; `path` is only named in errors."""
    return parse_header(io.BytesIO(data), len(data), path)


def parse_header(
    file: BinaryIO, size: int, path: Path, *, max_header_bytes: int = MAX_HEADER_BYTES, max_tensors: int = MAX_TENSORS
) -> dict[str, TensorInfo]:
    """Return what `read_header` returns, from an open file of `size` bytes that stands at its beginning."""
    if size < 8:
        raise _corrupt(path, f"has {size} bytes, too few for a safetensors file")
    length = int.from_bytes(read_exactly(file, 8, path), "little")
    if length > size - 8:
        raise _corrupt(path, f"its header should have {length} bytes but the file ends after {size - 8}")
    if length > max_header_bytes:
        raise _corrupt(path, f"its header has {length} bytes, over the limit of {max_header_bytes}")
    header = read_exactly(file, length, path)
    if not header.startswith(b"{") or not header.rstrip(b" ").endswith(b"}"):
        raise _corrupt(path, "its header is not a JSON object padded with spaces")
    entries = parse_json(header, str(path))
    metadata = entries.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _corrupt(path, "__metadata__ is not a mapping of strings to strings")
    if len(entries) > max_tensors:
        raise _corrupt(path, f"it has {len(entries)} tensors, over the limit of {max_tensors}")
    tensors = {name: _tensor(name, entry, path) for name, entry in entries.items()}
    tensors = dict(sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)))
    _check_cover(tensors, size - 8 - length, path)
    return tensors


def check_tensors(
    present: Mapping[str, TensorInfo], expected: Mapping[str, tuple[str, tuple[int, ...]]], where: str
) -> None:
    """Check that `present` has exactly the `expected` names, each with the dtype and shape given for it.

    Raises:
        AdapterCorruptError: names the first tensor that is missing, unexpected or wrong, and counts the rest.
    """
    problems = [f"tensor {name!r} is missing" for name in expected if name not in present]
    problems += [f"tensor {name!r} is unexpected" for name in present if name not in expected]
    for name, (dtype, shape) in expected.items():
        tensor = present.get(name)
        if tensor is not None and (tensor.dtype, tensor.shape) != (dtype, tuple(shape)):
            problems.append(
                f"tensor {name!r} is {tensor.dtype} {list(tensor.shape)} where {dtype} {list(shape)} is needed"
            )
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise AdapterCorruptError(
            f"{where}: {problems[0]}{more}; load it with the strategy config and base it was trained with"
        )


def _corrupt(path: Path, reason: str) -> AdapterCorruptError:
    return AdapterCorruptError(f"{path}: {reason}; save the adapter again or fetch it anew")


def is_tensor_name(name: str) -> bool:
    """Tell whether a tensor of a file may have this name."""
    # Control characters end up in terminals and logs; NUL ends a string in C; a lone surrogate is not Unicode.
    return bool(name) and name != METADATA and _CONTROL.search(name) is None


def _tensor(name: str, entry: Any, path: Path) -> TensorInfo:
    """Check one entry of the header by itself."""
    where = f"tensor {name[:120]!r}"
    if not is_tensor_name(name):
        raise _corrupt(path, f"{where} has a name that is empty or has control characters")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _corrupt(path, f"{where} must have dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise _corrupt(path, f"{where} has the unknown dtype {str(dtype)[:40]!r}")
    # `type(...) is int`: True is an int to isinstance, and is none to the format.
    if not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
        raise _corrupt(path, f"{where} has the bad shape {str(shape)[:80]}")
    # Zeros count as ones: a library that multiplies from the left overflows before it gets to the zero.
    if math.prod(max(n, 1) for n in shape) * DTYPE_BYTES[dtype] > _MAX_ELEMENTS:
        raise _corrupt(path, f"{where} has the overflowing shape {str(shape)[:80]}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(n) is int for n in offsets):
        raise _corrupt(path, f"{where} has the bad data_offsets {str(offsets)[:80]}")
    start, end = offsets
    if not 0 <= start <= end or end - start != math.prod(shape) * DTYPE_BYTES[dtype]:
        raise _corrupt(path, f"{where} has data_offsets {str(offsets)[:80]} that do not fit {dtype} {str(shape)[:80]}")
    return TensorInfo(dtype=dtype, shape=tuple(shape), start=start, end=end)


def _check_cover(tensors: Mapping[str, TensorInfo], size: int, path: Path) -> None:
    """Check that tensors, sorted by offset, cover `size` bytes of data without overlap or hole."""
    position = 0
    for name, tensor in tensors.items():
        if tensor.start != position:
            fault = "overlaps the one before it" if tensor.start < position else "leaves a hole before it"
            raise _corrupt(path, f"tensor {name[:120]!r} {fault}")
        position = tensor.end
    if position != size:
        fault = "is cut off" if position > size else "has trailing bytes"
        raise _corrupt(path, f"its data {fault}: {size} bytes where the tensors take {position}")
