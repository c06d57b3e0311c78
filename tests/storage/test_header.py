"""The header reader: agrees with the safetensors library, and is stricter wherever it does not."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from storage_samples import entry, good_header, good_tensors, safetensors_bytes

from adapterhub_lite.errors import AdapterCorruptError
from adapterhub_lite.storage.header import TensorInfo, check_tensors, header_of, read_header


def test_agrees_with_the_library(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dtypes = ["float32", "float16", "float64", "int8", "uint8", "int64", "uint16", "bool"]
    shapes = [(), (0, 3), (2, 5), (7,), (1, 2, 3), (4,), (3, 1), (2,)]
    arrays = {
        f"t{i}": np.asarray(rng.normal(size=s)).astype(d) for i, (d, s) in enumerate(zip(dtypes, shapes, strict=True))
    }
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file(arrays, path, metadata={"format": "np"})
    header = read_header(path)
    data = path.read_bytes()
    body = data[8 + struct.unpack("<Q", data[:8])[0] :]
    assert set(header) == set(arrays)
    with safetensors.safe_open(path, "np") as reference:
        for name, info in header.items():
            assert (info.dtype, list(info.shape)) == (
                reference.get_slice(name).get_dtype(),
                reference.get_slice(name).get_shape(),
            )
            assert body[info.start : info.end] == arrays[name].tobytes()


def test_hand_made_file_is_read(tmp_path: Path) -> None:
    header = header_of(good_tensors(), tmp_path)
    assert header["layer.0.a"] == TensorInfo("F32", (2, 3), 0, 24)
    assert header["scale"].shape == ()
    assert header_of(safetensors_bytes(b"{}", b""), tmp_path) == {}


def with_entry(name: str, value: object) -> dict[str, object]:
    return {**good_header(), name: value}


E36 = bytes(36)
DUPLICATE = json.dumps({"a": entry("U8", [1], 0, 1)})[:-1] + "," + json.dumps({"a": entry("U8", [1], 0, 1)})[1:]
BAD = {
    "empty": b"",
    "truncated length": b"\1\2\3",
    "length past the file": safetensors_bytes(b"{}", b"", length=3),
    "length overflows": safetensors_bytes(b"{}", b"", length=2**64 - 1),
    "truncated data": good_tensors()[:-1],
    "trailing bytes": good_tensors() + b"\0",
    "no header": safetensors_bytes(b"", b""),
    "not JSON": safetensors_bytes(b"{nope}", b""),
    "not an object": safetensors_bytes(b"[]", b""),
    "not UTF-8": safetensors_bytes(b'{"\xff": 1}', b""),
    "UTF-16": safetensors_bytes("{}".encode("utf-16"), b""),
    "byte order mark": safetensors_bytes(b"\xef\xbb\xbf{}", b""),
    "leading space": safetensors_bytes(b" {}", b""),
    "padded with newlines": safetensors_bytes(b"{}\n", b""),
    "NaN": safetensors_bytes(b'{"__metadata__": NaN}', b""),
    "deep": safetensors_bytes(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", b""),
    "thousands of digits": safetensors_bytes(b'{"a": ' + b"9" * 10_000 + b"}", b""),
    "duplicate tensor": safetensors_bytes(DUPLICATE.encode(), b"\0"),
    "duplicate inside": safetensors_bytes(b'{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"\0"),
    "metadata not strings": safetensors_bytes(with_entry("__metadata__", {"a": 1}), E36),
    "metadata a list": safetensors_bytes(with_entry("__metadata__", []), E36),
    "unknown dtype": safetensors_bytes({"a": entry("F3", [1], 0, 1)}, b"\0"),
    "dtype a list": safetensors_bytes({"a": {"dtype": [], "shape": [1], "data_offsets": [0, 1]}}, b"\0"),
    "negative shape": safetensors_bytes({"a": entry("U8", [-1, -1], 0, 1)}, b"\0"),
    "float shape": safetensors_bytes({"a": {"dtype": "U8", "shape": [1.0], "data_offsets": [0, 1]}}, b"\0"),
    "boolean shape": safetensors_bytes({"a": {"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}}, b"\0"),
    "overflowing shape": safetensors_bytes({"a": entry("U8", [2**32, 2**32, 2**32], 0, 0)}, b""),
    "overflow times zero": safetensors_bytes({"a": entry("U8", [2**40, 2**40, 0], 0, 0)}, b""),
    "too many dimensions": safetensors_bytes({"a": entry("U8", [1] * 100, 0, 1)}, b"\0"),
    "size of another shape": safetensors_bytes({"a": entry("F32", [2], 0, 4)}, bytes(4)),
    "negative offset": safetensors_bytes({"a": entry("U8", [1], -1, 0)}, b""),
    "backward offsets": safetensors_bytes({"a": entry("U8", [1], 1, 0)}, b"\0"),
    "three offsets": safetensors_bytes({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1, 1]}}, b"\0"),
    "offset past the end": safetensors_bytes({"a": entry("U8", [9], 0, 9)}, b"\0"),
    "overlap": safetensors_bytes({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 2, 6)}, bytes(6)),
    "same bytes twice": safetensors_bytes({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 0, 4)}, bytes(4)),
    "hole": safetensors_bytes({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 5, 9)}, bytes(9)),
    "hole at the start": safetensors_bytes({"a": entry("U8", [4], 1, 5)}, bytes(5)),
    "data without tensors": safetensors_bytes(b"{}", b"\0"),
    "NUL in a name": safetensors_bytes({"a\0b": entry("U8", [1], 0, 1)}, b"\0"),
    "escape in a name": safetensors_bytes({"a\x1b[2J": entry("U8", [1], 0, 1)}, b"\0"),
    "C1 control in a name": safetensors_bytes({"a\x9b": entry("U8", [1], 0, 1)}, b"\0"),
    "surrogate in a name": safetensors_bytes({"a\ud800": entry("U8", [1], 0, 1)}, b"\0"),
    "no name": safetensors_bytes({"": entry("U8", [1], 0, 1)}, b"\0"),
    "another key": safetensors_bytes({"a": {**entry("U8", [1], 0, 1), "x": 1}}, b"\0"),
    "a missing key": safetensors_bytes({"a": {"dtype": "U8", "shape": [1]}}, b"\0"),
    "entry a number": safetensors_bytes({"a": 1}, b""),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(BAD[kind])
    with pytest.raises(AdapterCorruptError, match=r"bad\.safetensors") as caught:
        read_header(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_limits(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(good_tensors())
    with pytest.raises(AdapterCorruptError, match="over the limit of 10"):
        read_header(path, max_header_bytes=10)
    with pytest.raises(AdapterCorruptError, match="4 tensors"):
        read_header(path, max_tensors=3)


def test_what_we_accept_the_library_accepts(tmp_path: Path) -> None:
    rng = random.Random(0)
    alphabet = b'{}[]",:0123456789-.eE \\untrueFU8\x00\xff'
    accepted = 0
    for _ in range(4000):
        data = bytearray(good_tensors())
        for _ in range(rng.choice([1, 1, 2, 4])):
            # An edit of the header in place, so that most mutants get past the length.
            data[rng.randrange(8, len(data) - 36)] = rng.choice(alphabet)
        try:
            header = header_of(bytes(data), tmp_path)
        except AdapterCorruptError:
            continue
        accepted += 1
        assert {name for name, _ in safetensors.deserialize(bytes(data))} == set(header)
    assert accepted > 20  # changed names and metadata, which are as good as the old ones


def test_check_tensors() -> None:
    header = {"a": TensorInfo("F32", (2, 3), 0, 24), "b": TensorInfo("F16", (1,), 24, 26)}
    check_tensors(header, {"b": ("F16", (1,)), "a": ("F32", (2, 3))}, "x")
    with pytest.raises(AdapterCorruptError, match=r"x: tensor 'c' is missing \(and 1 more\)"):
        check_tensors(header, {"a": ("F32", (2, 3)), "c": ("F16", (1,))}, "x")
    with pytest.raises(AdapterCorruptError, match="tensor 'b' is unexpected;"):
        check_tensors(header, {"a": ("F32", (2, 3))}, "x")
    with pytest.raises(AdapterCorruptError, match=r"'a' is F32 \[2, 3\] where F32 \[3, 2\]"):
        check_tensors(header, {"a": ("F32", (3, 2)), "b": ("F16", (1,))}, "x")
    with pytest.raises(AdapterCorruptError, match="'b' is F16"):
        check_tensors(header, {"a": ("F32", (2, 3)), "b": ("BF16", (1,))}, "x")
