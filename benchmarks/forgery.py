"""Forged adapters: an attacker edits tensors, settings, manifest or configuration and makes every hash agree."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.damage import CONFIG, MANIFEST, TENSORS

Tensor = tuple[str, list[int], bytes]  # dtype, shape, data
HUGE = 1 << 40
_TENSOR_KINDS = [
    "renamed", "dropped", "added", "emptied", "transposed", "longer", "flattened", "half", "double", "integers",
    "bfloat16", "nan", "inf", "-inf", "exchanged",
]  # fmt: skip


@dataclass
class Forgery:
    """An adapter taken apart, to be changed and put together again with hashes that match."""

    manifest: dict[str, Any]
    config: Any
    tensors: dict[str, Tensor]
    extra: dict[str, bytes] = field(default_factory=dict)
    unlisted: dict[str, bytes] = field(default_factory=dict)
    header: Callable[[dict[str, Any]], bytes] | None = None
    """How the header is encoded, where that is what is forged."""
    trailing: bytes = b""
    listed: Callable[[dict[str, Any]], None] | None = None
    """What is done to the list of files after it has been made to agree."""
    raw: Callable[[bytes], bytes] | None = None
    """What is done to the bytes of the manifest before it is sealed."""

    @classmethod
    def read(cls, folder: Path) -> Forgery:
        """Take the adapter in `folder` apart."""
        whole = (folder / TENSORS).read_bytes()
        length = struct.unpack("<Q", whole[:8])[0]
        header = json.loads(whole[8 : 8 + length])
        header.pop("__metadata__", None)
        body = whole[8 + length :]
        tensors = {
            name: (e["dtype"], e["shape"], body[e["data_offsets"][0] : e["data_offsets"][1]])
            for name, e in header.items()
        }
        manifest = json.loads((folder / MANIFEST).read_bytes())
        extra = {n: (folder / n).read_bytes() for n in manifest["files"] if n not in (CONFIG, TENSORS)}
        return cls(manifest, json.loads((folder / CONFIG).read_bytes()), tensors, extra)

    def copy(self) -> Forgery:
        """A copy to change."""
        return copy.deepcopy(self)

    def write(self, folder: Path) -> None:
        """Put it together in a new folder; sizes, hashes and the seal of the manifest are right."""
        folder.mkdir(parents=True)
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        body = b""
        for name, (dtype, shape, data) in self.tensors.items():
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
            body += data
        encoded = self.header(header) if self.header else json.dumps(header).encode()
        config = self.config if isinstance(self.config, bytes) else json.dumps(self.config).encode()
        files = {
            **self.extra,
            CONFIG: config,
            TENSORS: struct.pack("<Q", len(encoded)) + encoded + body + self.trailing,
        }
        for name, data in {**files, **self.unlisted}.items():
            (folder / name).write_bytes(data)
        self.manifest["files"] = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in files.items()
        }
        if self.listed is not None:
            self.listed(self.manifest["files"])
        document = {"manifest_sha256": "0" * 64, **{k: v for k, v in self.manifest.items() if k != "manifest_sha256"}}
        raw = json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"
        raw = self.raw(raw) if self.raw else raw
        (folder / MANIFEST).write_bytes(raw.replace(b"0" * 64, hashlib.sha256(raw).hexdigest().encode(), 1))

    @property
    def strategy(self) -> str:
        """Name of the strategy it was trained with."""
        return str(self.manifest["strategy"]["name"])


class Payload:
    """What a pickle would run."""

    def __init__(self, canary: Path):
        self.canary = str(canary)

    def __reduce__(self) -> tuple[Any, ...]:
        """Make the canary when unpickled."""
        return (open, (self.canary, "w"))


def forge(f: Forgery, rng: random.Random, canary: Path) -> tuple[str, bool]:
    """Change an adapter in one random way; return what was done, and whether it is still a legal adapter."""
    group = rng.choice(
        ["tensors", "header", "settings", "base", "task", "probe", "manifest", "files", "config", "legal"]
    )
    strategy = f.strategy
    what = _GROUPS[group](f, rng, canary)
    return f"{group}: {what} ({strategy})", group == "legal"


def _tensors(f: Forgery, rng: random.Random, canary: Path) -> str:
    name = rng.choice(sorted(f.tensors))
    dtype, shape, data = f.tensors[name]
    kind = rng.choice(_TENSOR_KINDS)
    values = np.frombuffer(data, "<f4")
    match kind:
        case "renamed":
            new = rng.choice(
                [name + "x", name.upper(), "../" + name, "/" + name, name + "\u202e", name + "\0", " " + name]
            )
            f.tensors[new] = f.tensors.pop(name)
        case "dropped":
            del f.tensors[name]
        case "added":
            f.tensors[rng.choice(["x", "head.weight2", "../../x", "base_model.evil"])] = ("F32", [4], bytes(16))
        case "emptied":
            f.tensors.clear()
        case "transposed":
            f.tensors[name] = (dtype, shape[::-1] if shape != shape[::-1] else [*shape, 1], data)
        case "longer":
            f.tensors[name] = (dtype, [shape[0] * 2, *shape[1:]], data + data)
        case "flattened":
            f.tensors[name] = (dtype, [len(values)] if len(shape) != 1 else [1, len(values)], data)
        case "half":
            f.tensors[name] = ("F16", shape, values.astype("<f2").tobytes())
        case "double":
            f.tensors[name] = ("F64", shape, values.astype("<f8").tobytes())
        case "integers":
            f.tensors[name] = (rng.choice(["I32", "U32"]), shape, data)
        case "bfloat16":
            f.tensors[name] = ("BF16", shape, data[: len(data) // 2])
        case "nan" | "inf" | "-inf":
            changed = values.copy()
            changed[rng.randrange(len(changed))] = float(kind)
            f.tensors[name] = (dtype, shape, changed.tobytes())
        case "exchanged":
            other = next((n for n, t in f.tensors.items() if t[1] != shape), None)
            if other is None:
                f.tensors[name + "x"] = f.tensors.pop(name)
            else:
                f.tensors[name], f.tensors[other] = f.tensors[other], f.tensors[name]
    return kind


def _header(f: Forgery, rng: random.Random, canary: Path) -> str:
    name = rng.choice(sorted(f.tensors))
    kind = rng.choice(
        ["huge shape", "overlap", "hole", "duplicate", "trailing", "extra key", "deep", "dtype", "negative", "metadata"]
        + ["million tensors"] * (rng.random() < 0.05)
    )

    def header(document: dict[str, Any]) -> bytes:
        entry = document[name]
        start, end = entry["data_offsets"]
        match kind:
            case "huge shape":
                entry["shape"] = rng.choice([[HUGE], [HUGE, HUGE], [2**63], [0, HUGE, HUGE], [1] * 100])
            case "overlap":
                entry["data_offsets"] = [max(0, start - 4), end - 4] if start else [4, end + 4]
            case "hole":
                entry["data_offsets"] = [start + 4, end + 4]
            case "duplicate":
                text = json.dumps(document)
                return f"{text[:-1]}, {json.dumps(name)}: {json.dumps(entry)}}}".encode()
            case "extra key":
                entry["strides"] = [1]
            case "deep":
                document["x"] = json.loads("[" * 300 + "]" * 300)
            case "dtype":
                entry["dtype"] = rng.choice(["Q4", "object", "", 7, None, ["F32"], "f32"])
            case "negative":
                entry["shape"] = [-n for n in entry["shape"]]
            case "metadata":
                document["__metadata__"] = rng.choice([[], 7, {"a": 1}, {"a": {"b": "c"}}])
            case "million tensors":
                return b"{" + b",".join(b'"%d":{}' % i for i in range(1_000_000)) + b"}"
        return json.dumps(document).encode()

    if kind == "trailing":
        f.trailing = rng.choice([b"\0", bytes(64), b"PK\x03\x04"])
    else:
        f.header = header
    return kind


def _settings(f: Forgery, rng: random.Random, canary: Path) -> str:
    strategy = f.manifest["strategy"]
    kind = rng.choice(["name", "unknown", "type", "size"])
    match kind:
        case "name":
            strategy["name"] = rng.choice(
                ["os:system", "adapterhub_lite.cli:main", "../x", "", "x" * 5000, "builtins.exec"]
            )
        case "unknown":
            strategy["config"][rng.choice(["auto_map", "import", "__class__", "x"])] = rng.choice(
                [1, "os.system", None]
            )
        case "type":
            strategy["config"][rng.choice(sorted(strategy["config"]))] = {"x": [1]}
        case "size":
            changes = {
                "lora": {"rank": rng.choice([1, 3, 5, 64, 1024, HUGE, -1]), "targets": "all-linear"},
                "linear_probe": {"folds": rng.choice([-1, 0, HUGE])},
                "full": {"top_layers": rng.choice([-1, HUGE, "x"])},
            }[f.strategy]
            strategy["config"].update(changes)
    return kind


def _base(f: Forgery, rng: random.Random, canary: Path) -> str:
    base = f.manifest["base"]
    kind = rng.choice([*base["fingerprint"], "quantization", "dtype", "parameters", "reference"])
    match kind:
        case "quantization" | "dtype":
            base[kind] = rng.choice(["", "q9", "torch.float32", 7, None])
        case "parameters":
            base[kind] = rng.choice([-1, "x", None, 1.5])
        case "reference":
            base[kind] = rng.choice([7, None, ["x"], {}])
        case "layers" | "vocabulary":
            base["fingerprint"][kind] = rng.choice([1, 3, HUGE, "x"])
        case _:
            base["fingerprint"][kind] = rng.choice(["f" * 64, "", 7, [1]])
    return kind


def _task(f: Forgery, rng: random.Random, canary: Path) -> str:
    task = f.manifest["task"]
    kind = rng.choice(["name", "fewer labels", "more labels", "same labels", "many labels", "labels", "preprocessing"])
    match kind:
        case "name":
            task["name"] = rng.choice(["causal-lm", "image-classification", "x", "", "os:system", 7])
        case "fewer labels":
            task["labels"] = rng.choice([task["labels"][:-1], []])
        case "more labels":
            task["labels"].append("more")
        case "same labels":
            task["labels"][0] = task["labels"][1]
        case "many labels":
            task["labels"] = [str(i) for i in range(rng.choice([1000, 200_000]))]
        case "labels":
            task["labels"] = rng.choice([None, "no,yes", [1, 2], [["no"], ["yes"]], ["", "yes"]])
        case "preprocessing":
            task["preprocessing"].update(
                rng.choice(
                    [{"max_length": n} for n in (-1, 0, 1, 4096, HUGE, "x", True, 1.5)]
                    + [{"pooling": "os.system"}, {"pooling": 7}, {"form": "x"}, {"x": 1}]  # type: ignore[list-item]
                )
            )
    return kind


def _probe(f: Forgery, rng: random.Random, canary: Path) -> str:
    f.manifest["probe"] = rng.choice(
        [
            [],
            {"inputs": ["good"], "outputs": []},
            {"inputs": [7], "outputs": [[0.0]]},
            {"inputs": [{"messages": 7}], "outputs": [[0.0]]},
            {"inputs": [{"noise": "x"}], "outputs": [[0.0]]},
            {"inputs": [{"path": "/etc/passwd"}], "outputs": [[0.0]]},
            {"inputs": [{"text": "x", "more": 1}], "outputs": [[0.0]]},
            {"inputs": ["good"], "outputs": [["x"]]},
            {"inputs": ["good"], "outputs": [[None]]},
        ]
    )
    return "malformed"


def _manifest(f: Forgery, rng: random.Random, canary: Path) -> str:
    kind = rng.choice(["unknown key", "missing key", "type", "version", "time", "duplicate", "NaN", "deep", "not JSON"])
    keys = [k for k in f.manifest if k not in ("manifest_sha256", "files", "schema_version")]
    needed = [k for k in keys if k not in ("data", "probe", "forced")]
    match kind:
        case "unknown key":
            part = rng.choice([f.manifest, f.manifest["strategy"], f.manifest["base"], f.manifest["task"]])
            part[rng.choice(["auto_map", "trust_remote_code", "x", "__proto__"])] = rng.choice([True, "x", {}])
        case "missing key":
            del f.manifest[rng.choice(needed)]
        case "type":
            f.manifest[rng.choice(keys)] = rng.choice([7, "x", True, ["x", 7], 1e308])
        case "version":
            f.manifest["schema_version"] = rng.choice([0, -1, 2, 99, "1", True, 1.0, None, HUGE])
        case "time":
            f.manifest["created"] = rng.choice(["now", "", "2025-01-31T12:00:00", "2025-01-31T12:00:00+02:00", 7])
        case "duplicate":
            f.raw = lambda raw: raw.replace(b'"forced": []', b'"forced": [], "forced": []')
        case "NaN":
            f.manifest["metrics"]["x"] = float(rng.choice(["nan", "inf"]))
        case "deep":
            f.manifest["training"]["x"] = json.loads("[" * 900 + "]" * 900)
        case "not JSON":
            f.raw = lambda raw: raw[:90] + rng.choice([b"", b"}", b"\xff", b"\0"]) + raw[200:]
    return kind


def _files(f: Forgery, rng: random.Random, canary: Path) -> str:
    kind = rng.choice(["listed", "pickle", "missing", "record", "case", "none"])
    one = {"sha256": "0" * 64, "size": 1}
    match kind:
        case "listed":
            bad = [
                "../x",
                "/etc/passwd",
                "a/b",
                "CON",
                "aux.txt",
                "com1.json",
                ".x",
                "x\0",
                "a\u202eb",
                "x.bin",
                "x.",
                " ",
            ]
            name = rng.choice(bad)
            f.listed = lambda files: files.update({name: one})
        case "pickle":
            f.unlisted[rng.choice(["adapter_model.bin", "x.pkl", "training_args.bin", "optimizer.pt"])] = pickle.dumps(
                Payload(canary)
            )
        case "missing":
            f.listed = lambda files: files.pop(rng.choice([CONFIG, TENSORS]))
        case "record":
            bad_records = [{"sha256": "x", "size": 1}, {"sha256": "0" * 64, "size": -1}, {"size": 1}, {}, 7, None]
            f.listed = lambda files: files.update({TENSORS: rng.choice(bad_records)})
        case "case":
            f.listed = lambda files: files.update({TENSORS.upper(): one})
        case "none":
            f.listed = lambda files: files.clear()
    return kind


def _config(f: Forgery, rng: random.Random, canary: Path) -> str:
    kind = rng.choice(["changed", "unknown key", "code", "not an object", "NaN", "duplicate", "removed"])
    decisive = {
        "lora": {
            "r": 9,
            "lora_alpha": 3.5,
            "target_modules": ["x"],
            "use_rslora": True,
            "use_dora": True,
            "peft_type": "X",
        },
        "linear_probe": {"strategy": "lora", "tensors": ["x"]},
        "full": {"strategy": "lora", "tensors": rng.choice([["x"], 7, "head.weight", [], None])},
    }[f.strategy]
    key = rng.choice(sorted(decisive))
    match kind:
        case "changed":
            f.config[key] = decisive[key]
        case "unknown key":
            f.config[rng.choice(["x", "strategies", "layers_to_run"])] = rng.choice([1, "x", True])
        case "code":
            f.config.update(
                rng.choice(
                    [
                        {"auto_map": {"AutoConfig": "evil.Evil"}},
                        {"auto_mapping": {"base_model_class": "X", "parent_library": "evil"}},
                        {"trust_remote_code": True},
                        {"eva_config": {"auto_map": {"AutoModel": "evil.Evil"}}},
                    ]
                )
            )
            f.unlisted["evil.py"] = f"open({str(canary)!r}, 'w')\n".encode()
        case "not an object":
            f.config = rng.choice([b"[]", b"7", b"", b"null", b"\xff\xfe", b"[" * 100_000])
        case "NaN":
            f.config = json.dumps({**f.config, key: float("nan")}).encode()
        case "duplicate":
            f.config = json.dumps(f.config).encode()[:-1] + f", {json.dumps(key)}: 1}}".encode()
        case "removed":
            del f.config[key]
    return kind


def _legal(f: Forgery, rng: random.Random, canary: Path) -> str:
    kind = rng.choice(["values", "metrics", "training", "labels", "reference", "data", "no probe", "extra", "order"])
    name = rng.choice(sorted(f.tensors))
    match kind:
        case "values":
            dtype, shape, data = f.tensors[name]
            values = np.frombuffer(data, "<f4") * rng.choice([0.5, -1.0])
            f.tensors[name] = (dtype, shape, values.astype("<f4").tobytes())
        case "metrics":
            f.manifest["metrics"]["accuracy"] = rng.random()
        case "training":
            f.manifest["training"]["note"] = {"by": ["hand", 1, None]}
        case "labels":
            f.manifest["task"]["labels"] = ["нет", "да \u202e"]
        case "reference":
            f.manifest["base"]["reference"] = "/nowhere"
        case "data":
            f.manifest["data"] = None
        case "no probe":
            f.manifest["probe"] = None
        case "extra":
            f.extra["notes.txt"] = b"mine"
        case "order":
            f.tensors = dict(sorted(f.tensors.items(), key=lambda item: rng.random()))
    return kind


_GROUPS: dict[str, Callable[[Forgery, random.Random, Path], str]] = {
    "tensors": _tensors,
    "header": _header,
    "settings": _settings,
    "base": _base,
    "task": _task,
    "probe": _probe,
    "manifest": _manifest,
    "files": _files,
    "config": _config,
    "legal": _legal,
}
