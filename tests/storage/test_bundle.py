"""Bundles: packed and unpacked to the same bytes, and refused whenever they are anything else than that."""

from __future__ import annotations

import io
import json
import random
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from adapterhub_lite.errors import AdapterCorruptError, AdapterHubError, AdapterNotFoundError, ConfigError, StorageError
from adapterhub_lite.storage import open_adapter
from adapterhub_lite.storage.bundle import extract, manifest_of, open_any, pack, unpack
from adapterhub_lite.storage.history import list_versions
from adapterhub_lite.storage.zip_reader import MAX_MEMBERS
from benchmarks.damage import sample


@pytest.fixture
def bundle(source: Path, tmp_path: Path) -> Path:
    return pack(source, tmp_path / "a.adapter.zip")


def rezip(bundle: Path, change: Callable[[dict[str, bytes]], None] = lambda files: None, **options: object) -> None:
    """Pack the files of a bundle anew, as somebody with another program would."""
    with zipfile.ZipFile(bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(bundle, "w", **options) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, options.get("compression"))  # type: ignore[arg-type]


def refuse(bundle: Path, match: str, error: type[AdapterHubError] = AdapterCorruptError) -> None:
    """Every way of opening it is refused, and leaves nothing behind."""
    folder = bundle.parent
    before = sorted(folder.rglob("*"))
    for attempt in (lambda: unpack(bundle, folder / "out"), lambda: open_any(bundle), lambda: manifest_of(bundle)):
        with pytest.raises(error, match=match) as caught:
            attempt()
        assert "\n" not in str(caught.value)
        assert str(caught.value).isprintable()
    assert sorted(folder.rglob("*")) == before


def test_there_and_back(source: Path, bundle: Path, tmp_path: Path) -> None:
    manifest = unpack(bundle, tmp_path / "out")
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == {
        p.name: p.read_bytes() for p in source.iterdir()
    }
    assert manifest == open_adapter(source)[0].manifest == manifest_of(bundle)
    assert open_any(bundle)[1] == open_adapter(source)[1]
    assert open_any(source)[1] == open_adapter(source)[1]


def test_the_same_adapter_gives_the_same_bytes_that_others_can_read(source: Path, bundle: Path, tmp_path: Path) -> None:
    again = pack(source, tmp_path / "b.adapter.zip")
    assert again.read_bytes() == bundle.read_bytes()
    with zipfile.ZipFile(bundle) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[0] == "adapterhub.json"
    pack(source, again)  # over the one that is there


def test_unpacking_over_an_adapter_keeps_it_as_a_version(source: Path, bundle: Path, tmp_path: Path) -> None:
    other = sample(tmp_path / "other", 2)
    unpack(bundle, other)
    assert [version.manifest.training["seed"] for version in list_versions(other)] == [2, 1]


def test_a_damaged_adapter_is_not_packed(source: Path, tmp_path: Path) -> None:
    (source / "run.yaml").write_text("x")
    with pytest.raises(AdapterCorruptError, match=r"run\.yaml"):
        pack(source, tmp_path / "a.adapter.zip")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


def test_places_that_cannot_be_written(source: Path, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.adapter\.zip; for example a\.adapter\.zip"):
        pack(source, tmp_path / "a.zip")
    (tmp_path / "f.adapter.zip").mkdir()
    with pytest.raises(StorageError, match="folder"):
        pack(source, tmp_path / "f.adapter.zip")
    with pytest.raises(StorageError, match="No such file"):
        pack(source, tmp_path / "no" / "a.adapter.zip")
    with pytest.raises(AdapterNotFoundError, match="no such file"):
        unpack(tmp_path / "none.adapter.zip", tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(StorageError, match="not ours to replace"):
        unpack(bundle, tmp_path / "mine")


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/tmp/evil",
        "..\\evil",
        "a/b",
        "C:evil",
        "nul",
        ".hidden",
        "evil.pkl",
        "a\x1b[2J",
        "ü",
        "x" * 200,
        "a/",
    ],
)
def test_members_outside_the_allow_list(bundle: Path, name: str) -> None:
    rezip(bundle, lambda files: files.update({name: b"x"}))
    refuse(bundle, "no bundle of ours")


@pytest.mark.parametrize("name", ["evil.py", "README.md", "x"])
def test_members_the_manifest_does_not_list(bundle: Path, name: str) -> None:
    rezip(bundle, lambda files: files.update({name: b"x"}))
    refuse(bundle, f"not those its manifest lists: '{name}'")


def test_a_missing_member(bundle: Path) -> None:
    rezip(bundle, lambda files: files.pop("run.yaml"))
    refuse(bundle, "not those its manifest lists")


def test_a_changed_member(bundle: Path) -> None:
    rezip(bundle, lambda files: files.update({"run.yaml": b"seed: 2\n"}))
    refuse(bundle, "not what was saved")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_names(bundle: Path) -> None:
    with zipfile.ZipFile(bundle, "a") as archive:
        archive.writestr(zipfile.ZipInfo("run.yaml"), b"seed: 1\n")
    refuse(bundle, "in it twice")


def test_names_that_differ_in_case(bundle: Path) -> None:
    rezip(bundle, lambda files: files.update({"RUN.yaml": b"seed: 1\n"}))
    refuse(bundle, "in it twice")


def test_a_compressed_bomb_is_never_inflated(bundle: Path) -> None:
    rezip(bundle, lambda files: files.update({"bomb": bytes(1 << 24)}), compression=zipfile.ZIP_DEFLATED)
    refuse(bundle, "compressed")


def test_a_bomb_of_overlapping_members(bundle: Path) -> None:
    """Fifield 2019: every entry of the directory leads to the same data."""
    with zipfile.ZipFile(bundle) as archive:
        data = archive.read("run.yaml")
    entries = b""
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, len(data), len(data), 1, 0) + b"a" + data
    for name in b"abcdefgh":
        entries += struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 0x314, 20, 0, 0, 0, 33, 0, len(data), len(data), 1, 0, 0, 0, 0, 0, 0
        ) + bytes([name])
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 8, 8, len(entries), len(local), 0)
    bundle.write_bytes(local + entries + end)
    refuse(bundle, "does not follow the member before it|damaged|no adapterhub")


def test_a_hundred_thousand_members(tmp_path: Path) -> None:
    path = tmp_path / "a.adapter.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(100_000):
            archive.writestr(zipfile.ZipInfo(f"m{index}"), b"")
    code = (
        "import sys, time, resource; from pathlib import Path\n"
        "from adapterhub_lite.storage.bundle import open_any\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; start = time.process_time()\n"
        "try: open_any(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True, text=True).stdout.split()
    assert done[0] == "AdapterCorruptError"
    assert float(done[1]) < 1
    assert int(done[2]) * 1024 < 200e6
    refuse(path, "members" if MAX_MEMBERS else "")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR])
def test_members_that_are_no_plain_files(bundle: Path, kind: int) -> None:
    with zipfile.ZipFile(bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(bundle, "w") as archive:
        for name, data in files.items():
            member = zipfile.ZipInfo(name)
            member.create_system, member.external_attr = 3, (kind if name == "run.yaml" else stat.S_IFREG) << 16
            archive.writestr(member, b"/etc/passwd" if name == "run.yaml" else data)
    refuse(bundle, "not a plain file")


def test_encrypted_members(bundle: Path) -> None:
    data = bytearray(bundle.read_bytes())
    at = data.rindex(b"PK\1\2")
    data[at + 8] |= 1
    bundle.write_bytes(data)
    refuse(bundle, "encrypted")


@pytest.mark.parametrize("where", ["after", "before", "comment", "between"])
def test_data_that_belongs_to_no_member(bundle: Path, where: str) -> None:
    data = bundle.read_bytes()
    if where == "after":
        bundle.write_bytes(data + b"x")
    elif where == "before":
        bundle.write_bytes(b"#!/bin/sh\n" + data)
    elif where == "comment":
        with zipfile.ZipFile(bundle, "a") as archive:
            archive.comment = b"hello"
    else:
        start = data.index(b"PK\1\2")
        moved = bytearray(data[:start] + b"gap!" + data[start:])
        struct.pack_into("<L", moved, len(moved) - 6, start + 4)
        bundle.write_bytes(moved)
    refuse(bundle, "no bundle of ours")


@pytest.mark.parametrize("data", [b"", b"PK\5\6", b"hello world, this is no zip file", b"PK\5\6" + bytes(18)])
def test_other_files(bundle: Path, data: bytes) -> None:
    bundle.write_bytes(data)
    refuse(bundle, "no bundle of ours|first member")


def test_mutants(bundle: Path, tmp_path: Path) -> None:
    """Bits flipped, bytes cut, appended, inserted and exchanged: nothing loads, but for a change of the time of day."""
    good = bundle.read_bytes()
    rng = random.Random(3)
    loaded = 0
    for _ in range(1500):
        data = bytearray(good)
        kind = rng.choice(["flip", "flip", "flip", "cut", "append", "insert", "move"])
        if kind == "flip":
            # Half of them in the headers, which are a small part of the file.
            place = rng.randrange(len(data)) if rng.random() < 0.5 else len(data) - 1 - rng.randrange(400)
            data[place] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del data[rng.randrange(len(data)) :]
        elif kind == "append":
            data += rng.randbytes(rng.choice([1, 22, 1000]))
        elif kind == "insert":
            place = rng.randrange(len(data))
            data[place:place] = rng.randbytes(rng.choice([1, 4]))
        else:
            one, other = rng.randrange(len(data) - 64), rng.randrange(len(data) - 64)
            data[one : one + 64], data[other : other + 64] = data[other : other + 64], data[one : one + 64]
        if data == good:
            continue
        bundle.write_bytes(data)
        try:
            open_any(bundle)
        except AdapterHubError:
            continue
        # The permissions and version fields of the directory mean nothing to us.
        loaded += 1
        with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(io.BytesIO(good)) as original:
            assert {n: archive.read(n) for n in archive.namelist()} == {
                n: original.read(n) for n in original.namelist()
            }
    assert loaded < 100


def test_a_full_disk_while_unpacking(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="MB free"):
        unpack(bundle, tmp_path / "out")
    with pytest.raises(StorageError, match="MB free"):
        pack(tmp_path / "source", tmp_path / "b.adapter.zip")
    assert not (tmp_path / "out").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.adapter.zip", "source"]


def test_extract_writes_only_into_its_folder(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    extract(bundle, tmp_path / "folder")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.adapter.zip", "folder", "source"]


def test_the_verbs_take_a_bundle(run, trained, tmp_path):
    packed = run("pack", trained, tmp_path / "words.adapter.zip")
    assert packed.code == 0, packed.err
    assert "words.adapter.zip (" in packed.out
    verified = run("verify", tmp_path / "words.adapter.zip", "--json")
    assert verified.code == 0, verified.err
    assert json.loads(verified.out)["ok"] is True
    (tmp_path / "data.csv").write_text("text,label\ngood card,good\nbad card,bad\n")
    scored = run("evaluate", tmp_path / "words.adapter.zip", "--data", tmp_path / "data.csv", "--json")
    assert scored.code == 0, scored.err
    assert json.loads(scored.out)["n"] == 2
    unpacked = run("unpack", tmp_path / "words.adapter.zip", tmp_path / "again")
    assert unpacked.code == 0, unpacked.err
    assert (tmp_path / "again" / "adapter_model.safetensors").read_bytes() == (
        trained / "adapter_model.safetensors"
    ).read_bytes()
    refused = run("unpack", trained / "adapterhub.json", tmp_path / "no")
    assert refused.code == 1
    assert "no bundle of ours" in refused.err


def test_history_and_rollback_on_the_command_line(run, trained, tmp_path, engine, load, references):
    target = tmp_path / "words"
    adapter = engine.load_adapter(trained, base=load(references("tiny-bert")))
    for seed in (1, 2):
        adapter.training["seed"] = seed
        adapter.save(target)
    adapter.detach()
    listed = json.loads(run("history", target, "--json").out)["versions"]
    assert [version["current"] for version in listed] == [False, True]
    assert "in use" in run("history", target).out
    back = run("rollback", target, listed[0]["id"][:8])
    assert back.code == 0, back.err
    assert json.loads(run("history", target, "--json").out)["versions"][-1]["id"] == listed[0]["id"]
    assert json.loads(run("rollback", target, "--json").out)["version"] == listed[1]["id"]
    assert run("rollback", target, "zzz").code == 1
    assert len(json.loads(run("history", target, "--keep", "0", "--json").out)["versions"]) == 1
    assert run("history", tmp_path / "none").code == 1
