"""Damage to the files of an adapter, as by a bad disk, a bad copy, or an editor: hashes are left as they were."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST, CONFIG, TENSORS = "adapterhub.json", "adapter_config.json", "adapter_model.safetensors"


@dataclass
class Files:
    """The files of an adapter in memory; None marks one that is missing, a `Path` a symbolic link."""

    contents: dict[str, bytes | Path | None]

    @classmethod
    def read(cls, folder: Path) -> Files:
        """Read every file of a folder."""
        return cls({path.name: path.read_bytes() for path in sorted(folder.iterdir())})

    def write(self, folder: Path) -> None:
        """Write them; those that are there already and are not named stay."""
        folder.mkdir(exist_ok=True, parents=True)
        for name, data in self.contents.items():
            path = folder / name
            path.unlink(missing_ok=True)
            if isinstance(data, Path):
                path.symlink_to(data)
            elif data is not None:
                path.write_bytes(data)

    def restore(self, folder: Path, good: Files) -> None:
        """Undo `write` where it differed from `good`."""
        for name in self.contents:
            path = folder / name
            if path.is_symlink() or path.exists():
                path.unlink()
            data = good.contents.get(name)
            if isinstance(data, bytes):
                path.write_bytes(data)


def damage(good: Files, foreign: Files, rng: random.Random) -> tuple[str, Files]:
    """Return what was done, and the changed files, which differ from the good ones."""
    while True:
        name = rng.choice(sorted(good.contents))
        kind = rng.choice(sorted(_KINDS))
        data = good.contents[name]
        assert isinstance(data, bytes)
        changed = Files(_KINDS[kind](name, data, good, foreign, rng))
        if any(good.contents.get(n) != d for n, d in changed.contents.items()):
            return f"{kind}: {name}", changed


Change = dict[str, bytes | Path | None]


def _flip(name: str, data: bytes, good: Files, foreign: Files, rng: random.Random) -> Change:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 1, 2, 8])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return {name: bytes(changed)}


def _cut(name: str, data: bytes, good: Files, foreign: Files, rng: random.Random) -> Change:
    return {name: data[: rng.randrange(len(data))]}


def _append(name: str, data: bytes, good: Files, foreign: Files, rng: random.Random) -> Change:
    return {name: data + rng.choice([b"\n", b" ", b"\0", b"{}", data, bytes(4096)])}


def _insert(name: str, data: bytes, good: Files, foreign: Files, rng: random.Random) -> Change:
    place = rng.randrange(len(data) + 1)
    return {name: data[:place] + bytes([rng.choice(b" \n0,}")]) + data[place:]}


def _zero(name: str, data: bytes, good: Files, foreign: Files, rng: random.Random) -> Change:
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.choice([1, 16, 512, 4096]))
    return {name: data[:start] + bytes(end - start) + data[end:]}


def _splice(name: str, data: bytes, good: Files, foreign: Files, rng: random.Random) -> Change:
    """The beginning of one adapter's file and the end of another's, or all of the other's."""
    other = foreign.contents[name]
    assert isinstance(other, bytes)
    place = rng.choice([0, rng.randrange(len(data)), len(data) // 512 * 256])
    return {name: data[:place] + other[place:]}


def _exchange(name: str, data: bytes, good: Files, foreign: Files, rng: random.Random) -> Change:
    other = rng.choice([each for each in sorted(good.contents) if each != name])
    return {name: good.contents[other], other: data}


def _delete(name: str, data: bytes, good: Files, foreign: Files, rng: random.Random) -> Change:
    return {name: None}


def _rename(name: str, data: bytes, good: Files, foreign: Files, rng: random.Random) -> Change:
    return {name: None, rng.choice([name.upper(), f"{name}.old", f" {name}"]): data}


def _link(name: str, data: bytes, good: Files, foreign: Files, rng: random.Random) -> Change:
    return {name: Path(rng.choice(["/etc/passwd", "/dev/zero", "/dev/stdin", name, "..", "/nowhere"]))}


def _pickle(name: str, data: bytes, good: Files, foreign: Files, rng: random.Random) -> Change:
    return {rng.choice(["adapter_model.bin", "x.pt", "x.PKL", "optimizer.pth", "a.ckpt"]): data}


def _names(name: str, data: bytes, good: Files, foreign: Files, rng: random.Random) -> Change:
    """Two tensors exchange their names, or one gets another; the file stays as sound as it was."""
    whole = good.contents[TENSORS]
    assert isinstance(whole, bytes)
    length = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + length])
    keys = [key for key in header if key != "__metadata__"]
    one, other = rng.sample(keys, 2)
    if rng.random() < 0.5:
        header[one], header[other] = header[other], header[one]
    else:
        header[rng.choice([one + "x", "../" + one, "x", one.upper()])] = header.pop(one)
    encoded = json.dumps(header).encode()
    return {TENSORS: struct.pack("<Q", len(encoded)) + encoded + whole[8 + length :]}


def _json(name: str, data: bytes, good: Files, foreign: Files, rng: random.Random) -> Change:
    """One value anywhere in a JSON file, changed, removed or added."""
    name = rng.choice([MANIFEST, CONFIG])
    raw = good.contents[name]
    assert isinstance(raw, bytes)
    document = json.loads(raw)
    spots: list[tuple[Any, Any]] = []
    stack = [document]
    while stack:
        item = stack.pop()
        for key, value in list(item.items() if isinstance(item, dict) else enumerate(item)):
            spots.append((item, key))
            if isinstance(value, dict | list):
                stack.append(value)
    item, key = rng.choice(spots)
    if isinstance(item, dict) and rng.random() < 0.3:
        del item[key]
    elif isinstance(item, dict) and rng.random() < 0.3:
        item[f"{key}_"] = item[key]
    else:
        item[key] = rng.choice([None, 0, -1, 1e308, "x", [], {}, {"x": 1}, True, "0" * 64, "../../etc/passwd"])
    return {name: json.dumps(document, indent=rng.choice([None, 2])).encode()}


_KINDS: dict[str, Callable[[str, bytes, Files, Files, random.Random], Change]] = {
    "bits flipped": _flip,
    "cut": _cut,
    "appended": _append,
    "inserted": _insert,
    "zeroed": _zero,
    "spliced": _splice,
    "files exchanged": _exchange,
    "deleted": _delete,
    "renamed": _rename,
    "symbolic link": _link,
    "pickle": _pickle,
    "tensor names": _names,
    "edited JSON": _json,
}


def sample(folder: Path, version: int) -> Path:
    """Write an adapter by hand, with no model: some tensors of all kinds, a manifest, an extra file."""
    from adapterhub_lite.storage import (
        BaseRecord,
        DataRecord,
        Fingerprint,
        Manifest,
        ProbeRecord,
        StrategyRecord,
        TaskRecord,
        write_adapter,
    )

    rng = random.Random(version)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for layer in range(4):
        for part, dtype, shape, width in (("a", "F32", [4, 16], 4), ("b", "F32", [16, 4], 4), ("c", "BF16", [8], 2)):
            count = width
            for n in shape:
                count *= n
            header[f"layer.{layer}.{part}"] = {
                "dtype": dtype,
                "shape": shape,
                "data_offsets": [len(data), len(data) + count],
            }
            data += bytes(rng.randrange(0x70) for _ in range(count))
    encoded = json.dumps(header).encode()
    manifest = Manifest(
        strategy=StrategyRecord(
            name="lora", dist="adapterhub-lite", version="0.1.0", config={"rank": 4, "targets": "all"}
        ),
        base=BaseRecord(
            reference="org/base",
            revision="main",
            fingerprint=Fingerprint(
                architecture="a" * 64, weights="b" * 64, tokenizer="c" * 64, vocabulary=30522, layers=4
            ),
            quantization="nf4",
            dtype="bfloat16",
            parameters=100,
        ),
        task=TaskRecord(
            name="text-classification", labels=["no", "да", "是"], columns={"text": "utterance"}, preprocessing={}
        ),
        data=DataRecord(source="train.csv", sha256="d" * 64, rows=10),
        training={"seed": version, "learning_rate": 1e-4},
        metrics={"accuracy": 0.1 * version, "loss": None},
        versions={"adapterhub-lite": "0.1.0"},
        probe=ProbeRecord(inputs=["hello", {"text": "a"}], outputs=[[0.25, -1e-9], [1.0, 3.0]]),
        forced=[],
        created=f"2025-01-3{version % 2}T12:00:00+00:00",
    )
    shutil.rmtree(folder, ignore_errors=True)
    write_adapter(
        folder,
        tensors=struct.pack("<Q", len(encoded)) + encoded + data,
        config={"peft_type": "LORA", "r": 4, "lora_alpha": version, "target_modules": ["q", "v"]},
        manifest=manifest,
        extra={"run.yaml": os.fsencode(f"seed: {version}\n")},
    )
    return folder
