"""Damaged adapters by the thousand, and documents made to cost time or memory; see benchmarks/storage_attack.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from storage_samples import save

from adapterhub_lite.errors import AdapterCorruptError, StorageError
from adapterhub_lite.storage.layout import CONFIG, MANIFEST, TENSORS
from adapterhub_lite.storage.store import read_adapter, refuse_code

ROOT = Path(__file__).parents[2]

# Reads one adapter in a process of its own and tells the error, the calls it took and the growth of its memory.
MEASURE = """
import json, resource, sys
from pathlib import Path
from adapterhub_lite.errors import AdapterHubError
from adapterhub_lite.storage import open_adapter
open_adapter(Path(sys.argv[1]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
calls, said = 0, None
def count(frame, event, argument):
    global calls
    calls += event in ("call", "c_call")
sys.setprofile(count)
try:
    open_adapter(Path(sys.argv[2]))
except AdapterHubError as error:
    said = str(error)
sys.setprofile(None)
print(json.dumps([said, calls, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak]))
"""


def test_five_thousand_mutants() -> None:
    command = [sys.executable, "-m", "benchmarks.storage_attack", "--damaged", "5000", "--forged", "0", "--json"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.stdout, done.stderr
    summary = json.loads(done.stdout)["damaged"]
    assert summary["mutants"] == 5000
    assert (summary["loaded"], summary["untyped"], summary["slow"]) == ([], [], [])
    assert summary["memory_bytes"] < 200e6
    assert min(summary["kinds"].values()) > 200
    assert done.returncode == 0


def header(body: bytes) -> bytes:
    return len(body).to_bytes(8, "little") + body


def nested(unit: bytes, size: int) -> bytes:
    return b'{"a":[' + unit * (size // len(unit)) + b"0]}"


MB10 = (10 << 20) - 100
ENTRY = b'"t%06d":{"dtype":"U8","shape":[0,0],"data_offsets":[0,0]}'
KEYS = b",".join(b'"k%d":0' % i for i in range(100_000)) + b',"k99999":0'
COSTLY = {
    "a key twice in the manifest": (MANIFEST, b"{" + KEYS + b"}"),
    "a key twice in the configuration": (CONFIG, b"{" + KEYS + b"}"),
    "a key twice in the header": (TENSORS, header(b"{" + KEYS + b"}")),
    "a million tensors": (TENSORS, header(b"{" + b",".join(b'"%d":{}' % i for i in range(1_000_000)) + b"}")),
    "a million whole tensors": (TENSORS, header(b"{" + b",".join(ENTRY % i for i in range(1_000_000)) + b"}")),
    "lists": (TENSORS, header(nested(b"[],", MB10))),
    "lists of lists": (TENSORS, header(nested(b"[[0]],", MB10))),
    "dicts": (TENSORS, header(nested(b'{"":0},', MB10))),
    "strings": (TENSORS, header(nested(b'"ab",', MB10))),
    "numbers": (TENSORS, header(nested(b"0.5,", MB10))),
    "wide characters": (TENSORS, header('{"😀'.encode() + b"a" * MB10 + b'":0}')),
    "just below the limits": (
        TENSORS,
        header(nested(b'{"":[0.5,0.5,0.5,0.5]},', 140_000 * 23)),
    ),
    "a header too long": (TENSORS, header(b"{" + b" " * (11 << 20) + b"}")),
    "a length of 2**63": (TENSORS, (2**63).to_bytes(8, "little") + b"{}"),
    "dicts in the manifest": (MANIFEST, nested(b'{"":0},', (4 << 20) - 100)),
    "strings in the manifest": (MANIFEST, nested(b'"ab",', (4 << 20) - 100)),
    "a manifest too long": (MANIFEST, b" " * (5 << 20)),
    "dicts in the configuration": (CONFIG, nested(b'{"":0},', (8 << 20) - 100)),
    "a configuration too long": (CONFIG, b" " * (9 << 20)),
}


@pytest.mark.parametrize("kind", COSTLY)
def test_costly_documents(tmp_path: Path, kind: str) -> None:
    from storage_samples import reseal

    name, data = COSTLY[kind]
    save(tmp_path / "good")
    save(tmp_path / "bad")
    (tmp_path / "bad" / name).write_bytes(data)
    if name != MANIFEST:
        reseal(tmp_path / "bad")
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "good"), str(tmp_path / "bad")]
    said, calls, grown = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert said is not None
    assert name in said
    assert len(said) < 600
    # What is refused is refused before it is parsed, and what is parsed costs a few calls an entry; a time would
    # depend on what else the machine does.
    assert calls < (2_000_000 if kind == "just below the limits" else 2_000)
    assert grown * 1024 < 200e6, f"{grown / 1e3:.0f} MB"


def test_as_many_tensors_as_allowed_are_read(tmp_path: Path) -> None:
    from storage_samples import forge_tensors

    save(tmp_path / "good")
    save(tmp_path / "many")
    forge_tensors(tmp_path / "many", header(b"{" + b",".join(ENTRY % i for i in range(100_000)) + b"}"))
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "good"), str(tmp_path / "many")]
    said, calls, grown = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert said is None
    assert calls < 35 * 100_000, "a few calls a tensor"
    assert grown * 1024 < 200e6


HOSTILE_NAMES = ["CON", "nul.json", "Aux.txt", "com1.yaml", "LPT9", "a\u202egnp", "a.", " a", "a b", "ａ", "~", "-rf"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_names_that_mean_something_elsewhere(tmp_path: Path, name: str) -> None:
    from storage_samples import edit_manifest

    with pytest.raises(StorageError, match="not a plain file name"):
        save(tmp_path / "b", extra={name: b""})
    save(tmp_path / "a")
    files = json.loads((tmp_path / "a" / MANIFEST).read_text())["files"]
    edit_manifest(tmp_path / "a", files={**files, name: {"sha256": "0" * 64, "size": 1}})
    with pytest.raises(AdapterCorruptError, match="no name for"):
        read_adapter(tmp_path / "a")


@pytest.mark.parametrize("name", ["Adapter_Config.json", "ADAPTERHUB.JSON", "TOKENIZER.json"])
def test_names_that_are_one_where_case_does_not_count(tmp_path: Path, name: str) -> None:
    from storage_samples import edit_manifest

    with pytest.raises(StorageError, match="upper and lower case"):
        save(tmp_path / "b", extra={name: b"", "tokenizer.json": b""})
    save(tmp_path / "a")
    files = json.loads((tmp_path / "a" / MANIFEST).read_text())["files"]
    edit_manifest(tmp_path / "a", files={**files, name: {"sha256": "0" * 64, "size": 1}})
    with pytest.raises(AdapterCorruptError, match="upper and lower case"):
        read_adapter(tmp_path / "a")


@pytest.mark.parametrize(
    "config",
    [
        {"auto_map": {"AutoConfig": "evil.Evil"}},
        {"inner": [{"auto_map": "evil.Evil"}]},
        {"trust_remote_code": True},
        {"auto_mapping": {"parent_library": "evil"}},
        {"auto_mapping": "evil"},
    ],
)
def test_configurations_that_ask_for_code(tmp_path: Path, config: dict[str, object]) -> None:
    with pytest.raises(AdapterCorruptError, match="asks to"):
        refuse_code(config, "x")
    refuse_code({"auto_mapping": None, "trust_remote_code": False, "auto_map": None}, "x")
    refuse_code({"auto_mapping": {"parent_library": "transformers.models.bert.modeling_bert"}}, "x")


def test_a_read_only_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    save(tmp_path / "a", 1)

    def refuse(*args: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(tmp_path))

    for name in ("mkdir", "rename", "link"):
        monkeypatch.setattr(os, name, refuse)
    with pytest.raises(StorageError, match="Read-only file system"):
        save(tmp_path / "a", 2)
    assert read_adapter(tmp_path / "a").config["r"] == 1
