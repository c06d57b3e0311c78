"""Writing and reading adapters: round trip, damage, forgery, and what is said about each."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError
from storage_samples import edit_manifest, forge_tensors, good_tensors, manifest, reseal, safetensors_bytes, save
from test_header import BAD

from adapterhub_lite.errors import AdapterCorruptError, AdapterHubError, AdapterNotFoundError, StorageError
from adapterhub_lite.storage.layout import CONFIG, MANIFEST, TENSORS
from adapterhub_lite.storage.manifest import Manifest, decode_manifest, encode_manifest
from adapterhub_lite.storage.store import adapter_size, open_adapter, read_adapter, read_tensor_bytes, write_adapter

NAMES = [MANIFEST, CONFIG, TENSORS, "tokenizer.json"]


def test_import_is_light() -> None:
    code = (
        "import sys; import adapterhub_lite.storage;"
        "print(len(sys.modules), *sorted({'torch', 'transformers', 'peft', 'numpy', 'safetensors'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    count, *heavy = run.stdout.split()
    assert heavy == []
    assert int(count) < 400  # 285 when this was written; torch alone brings 1,000


def test_round_trip(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "adapter"
    written = save(target, 7)
    stored = read_adapter(target)
    assert stored.manifest == written
    assert stored.manifest.model_copy(update={"files": {}}) == manifest(7)
    assert stored.config == {"peft_type": "LORA", "r": 7}
    assert read_tensor_bytes(stored) == good_tensors(7)
    assert open_adapter(target) == (stored, good_tensors(7))
    assert sorted(stored.manifest.files) == sorted(NAMES[1:])
    assert stored.manifest.metrics["accuracy"] == 0.1 + 0.2
    assert adapter_size(target) == sum((target / name).stat().st_size for name in NAMES)
    assert Manifest.model_validate_json(written.model_dump_json()) == written
    assert decode_manifest(encode_manifest(written), "x") == written


def test_symbolic_link_to_an_adapter_is_followed(tmp_path: Path) -> None:
    save(tmp_path / "v1", 1)
    (tmp_path / "latest").symlink_to("v1")
    assert read_adapter(tmp_path / "latest").config["r"] == 1
    save(tmp_path / "latest", 2)
    assert (tmp_path / "latest").is_symlink()
    assert read_adapter(tmp_path / "v1").config["r"] == 2


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_ordinary_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save(tmp_path / "adapter")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "adapter").stat().st_mode) == 0o750
    assert {stat.S_IMODE((tmp_path / "adapter" / name).stat().st_mode) for name in NAMES} == {0o640}


def mutate(folder: Path, rng: random.Random) -> str:
    """Damage an adapter in one random way, and say how."""
    name = rng.choice(NAMES)
    path = folder / name
    data = bytearray(path.read_bytes())
    kind = rng.choice(["flip", "flip", "flip", "cut", "append", "zero", "swap", "delete", "edit", "rename", "insert"])
    if kind == "flip":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[rng.randrange(len(data)) :]
    elif kind == "append":
        data += rng.choice([b"\n", b" ", b"\0", b"{}", bytes(data)])
    elif kind == "zero":
        data[:] = bytes(len(data))
    elif kind == "insert":
        data.insert(rng.randrange(len(data)), rng.choice(b" \n0"))
    if kind in ("flip", "cut", "append", "zero", "insert"):
        path.write_bytes(data)
    elif kind == "swap":
        other = folder / rng.choice([n for n in NAMES if n != name])
        path.rename(folder / "tmp")
        other.rename(path)
        (folder / "tmp").rename(other)
    elif kind == "delete":
        path.unlink()
    elif kind == "rename":
        path.rename(folder / f"{name}.old")
    elif kind == "edit":
        document = json.loads((folder / MANIFEST).read_text())
        key = rng.choice([key for key in document if key != "manifest_sha256"])
        if rng.random() < 0.5:
            del document[key]
        else:
            document[key] = rng.choice([None, 1, "x", [], {}, {"x": 1}, True])
        (folder / MANIFEST).write_text(json.dumps(document, indent=2))
    return f"{kind} {name}"


def test_no_mutant_loads(tmp_path: Path) -> None:
    save(tmp_path / "good")
    rng = random.Random(20250131)
    for index in range(500):
        folder = tmp_path / "mutant"
        shutil.copytree(tmp_path / "good", folder)
        how = mutate(folder, rng)
        with pytest.raises(AdapterHubError) as caught:
            pytest.fail(f"mutant {index} ({how}) loaded: {read_adapter(folder)}")
        assert "\n" not in str(caught.value), how
        shutil.rmtree(folder)


def test_every_bit_of_the_manifest_counts(tmp_path: Path) -> None:
    data = encode_manifest(manifest())
    for position in range(0, len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << (position % 8)
        with pytest.raises(AdapterCorruptError):
            decode_manifest(bytes(flipped), "x")


@pytest.mark.parametrize("kind", BAD)
def test_bad_header_with_matching_hashes(tmp_path: Path, kind: str) -> None:
    save(tmp_path / "a")
    forge_tensors(tmp_path / "a", BAD[kind])
    with pytest.raises(AdapterCorruptError, match=TENSORS):
        read_adapter(tmp_path / "a")


def test_forged_manifests_raise_nothing_else(tmp_path: Path) -> None:
    save(tmp_path / "a")
    good = (tmp_path / "a" / MANIFEST).read_bytes()
    rng = random.Random(1)
    refused = []
    for _ in range(500):
        data = bytearray(good)
        for _ in range(rng.choice([1, 1, 3])):
            data[rng.randrange(96, len(data))] = rng.choice(b'{}[]",:09-eE\\ \x00\xff')
        reseal(tmp_path / "a", raw=bytes(data))
        try:
            stored = read_adapter(tmp_path / "a")
        except AdapterHubError as error:
            refused.append(str(error))
        else:
            assert stored.manifest == decode_manifest((tmp_path / "a" / MANIFEST).read_bytes(), "a")
    assert 400 < len(refused) < 500
    assert all(str(tmp_path / "a") in message for message in refused)


FORGED: dict[str, tuple[dict[str, object], str]] = {
    "unknown key": ({"surprise": 1}, "surprise"),
    "newer": ({"schema_version": 2, "versions": {"adapterhub-lite": "0.9.1"}}, "pip install 'adapterhub-lite>=0.9.1'"),
    "newer, hostile": ({"schema_version": 2, "versions": {"adapterhub-lite": "1; rm x"}}, "--upgrade adapterhub-lite"),
    "older than any": ({"schema_version": 0}, "schema_version"),
    "version a boolean": ({"schema_version": True}, "schema_version"),
    "version a string": ({"schema_version": "1"}, "schema_version"),
    "wrong type": ({"task": "x"}, "task"),
    "time not UTC": ({"created": "2025-01-31T12:00:00+02:00"}, "created"),
    "time without zone": ({"created": "2025-01-31T12:00:00"}, "created"),
    "no files": ({"files": {}}, f"lists no {CONFIG}"),
    "deep config": ({"training": {"x": json.loads("[" * 400 + "]" * 400)}}, ""),
}


@pytest.mark.parametrize("kind", FORGED)
def test_forged_manifest(tmp_path: Path, kind: str) -> None:
    changes, message = FORGED[kind]
    save(tmp_path / "a")
    edit_manifest(tmp_path / "a", **changes)
    with pytest.raises(AdapterCorruptError) as caught:
        read_adapter(tmp_path / "a")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["../a", "/etc/passwd", "sub/file", ".hidden", "", "..", "a\0b", MANIFEST, "x.bin", "a\\b"]
)
def test_forged_file_names(tmp_path: Path, name: str) -> None:
    save(tmp_path / "a")
    files = json.loads((tmp_path / "a" / MANIFEST).read_text())["files"]
    edit_manifest(tmp_path / "a", files={**files, name: {"sha256": "0" * 64, "size": 1}})
    with pytest.raises(AdapterCorruptError, match="no name for"):
        read_adapter(tmp_path / "a")
    if name != "..":
        with pytest.raises(StorageError, match="not a plain file name"):
            save(tmp_path / "b", extra={name: b""})
        assert not (tmp_path / "b").exists()


def test_duplicate_keys_and_size_of_the_manifest(tmp_path: Path) -> None:
    save(tmp_path / "a")
    path = tmp_path / "a" / MANIFEST
    reseal(tmp_path / "a", raw=path.read_bytes().replace(b'"forced": []', b'"forced": [], "forced": []'))
    with pytest.raises(AdapterCorruptError, match="'forced' appears twice"):
        read_adapter(tmp_path / "a")
    path.write_bytes(b" " * (17 << 20))
    with pytest.raises(AdapterCorruptError, match="at most"):
        read_adapter(tmp_path / "a")


@pytest.mark.parametrize("config", [b"[]", b'{"a": 1, "a": 2}', b'{"a": NaN}', b"\xff"])
def test_forged_config(tmp_path: Path, config: bytes) -> None:
    save(tmp_path / "a")
    (tmp_path / "a" / CONFIG).write_bytes(config)
    reseal(tmp_path / "a")
    with pytest.raises(AdapterCorruptError, match=CONFIG):
        read_adapter(tmp_path / "a")


def plant_link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def plant_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def plant_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders there")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("plant", [plant_link, plant_pipe, plant_folder])
def test_only_plain_files(tmp_path: Path, name: str, plant: Callable[[Path], None]) -> None:
    save(tmp_path / "a")
    plant(tmp_path / "a" / name)
    with pytest.raises(AdapterCorruptError, match=r"symbolic link|not a plain file"):
        read_adapter(tmp_path / "a")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "a.PT", "x.pth", "x.pkl", "x.ckpt", "inner/optimizer.pt"])
def test_pickles_are_refused(tmp_path: Path, name: str) -> None:
    save(tmp_path / "a")
    (tmp_path / "a" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "a" / name).write_bytes(b"")
    with pytest.raises(AdapterCorruptError, match="pickle"):
        read_adapter(tmp_path / "a")


def test_not_found(tmp_path: Path) -> None:
    save(tmp_path / "bank-intents")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / CONFIG).write_text("{}")
    (tmp_path / "nothing").mkdir()
    cases = [
        ("bank-intent", "did you mean .*bank-intents"),
        ("plain", "plain PEFT adapter"),
        ("nothing", f"no {MANIFEST}"),
        (".", "did you mean .*bank-intents"),
        ("bank-intents/adapterhub.json", "it is a file"),
        ("no/such/parent", "does not exist"),
        ("x" * 300, "no adapter"),
        ("nul\0", "NUL"),
        ("/", f"no {MANIFEST}"),
    ]
    for name, message in cases:
        for read in (read_adapter, adapter_size):
            with pytest.raises(AdapterNotFoundError, match=message):
                read(tmp_path / name)


def test_swapped_between_check_and_load(tmp_path: Path) -> None:
    save(tmp_path / "a", 1)
    stored = read_adapter(tmp_path / "a")
    save(tmp_path / "a", 2)
    with pytest.raises(AdapterCorruptError, match="changed since"):
        read_tensor_bytes(stored)


def test_nothing_unreadable_is_written(tmp_path: Path) -> None:
    with pytest.raises(AdapterCorruptError):
        write_adapter(tmp_path / "a", tensors=safetensors_bytes(b"{", b""), config={}, manifest=manifest())
    with pytest.raises(StorageError, match="not JSON"):
        write_adapter(tmp_path / "a", tensors=good_tensors(), config={"x": math.nan}, manifest=manifest())
    assert list(tmp_path.iterdir()) == []


def test_manifest_is_strict_and_frozen() -> None:
    fields = manifest().model_dump()
    for changes in ({"metrics": {"x": math.inf}}, {"training": {"x": [math.nan]}}, {"unknown": 1}, {"created": "now"}):
        with pytest.raises(ValidationError):
            Manifest(**{**fields, **changes})
    with pytest.raises(ValidationError):
        manifest().created = "x"  # type: ignore[misc]
    models = [Manifest, *(type(getattr(manifest(), name)) for name in ("strategy", "base", "task", "data", "probe"))]
    assert all(field.description for model in models for field in model.model_fields.values())
