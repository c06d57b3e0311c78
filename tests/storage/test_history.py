"""Versions: kept on every save, deduplicated, bounded, put back, and never in the way of the adapter."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from storage_samples import good_tensors, manifest, save

from adapterhub_lite.errors import AdapterCorruptError, AdapterNotFoundError, StorageError
from adapterhub_lite.storage import history
from adapterhub_lite.storage.history import KEEP, list_versions
from adapterhub_lite.storage.store import open_adapter, read_adapter, write_adapter
from adapterhub_lite.storage.versions import delete_adapter, rollback, trim


def seeds(target: Path) -> list[object]:
    return [version.manifest.training["seed"] for version in list_versions(target)]


def objects(target: Path) -> list[Path]:
    return sorted((target.parent / ".a.history" / "objects").iterdir())


def test_every_replaced_version_is_kept_up_to_a_number(tmp_path: Path) -> None:
    target = tmp_path / "a"
    for version in range(KEEP + 4):
        save(target, version)
        assert list_versions(target)[-1].current
    assert seeds(target) == list(range(3, KEEP + 4))
    assert sorted(p.name for p in target.iterdir()) == sorted([*read_adapter(target).manifest.files, "adapterhub.json"])
    # Three files a version, of which tokenizer.json is the same in all.
    assert len(objects(target)) == 2 * KEEP + 1


def test_the_same_tensors_are_there_once(tmp_path: Path) -> None:
    target = tmp_path / "a"
    for version in range(4):
        write_adapter(target, tensors=good_tensors(0), config={"r": 1}, manifest=manifest(version))
    assert seeds(target) == [0, 1, 2, 3]
    assert len(objects(target)) == 2


def test_rollback_and_back_again(tmp_path: Path) -> None:
    target = tmp_path / "a"
    for version in (1, 2, 3):
        save(target, version)
    before = (target / "adapterhub.json").read_bytes()
    assert rollback(target).manifest.training["seed"] == 2
    assert open_adapter(target)[1] == good_tensors(2)
    assert seeds(target) == [1, 3, 2]
    assert rollback(target).manifest.training["seed"] == 3
    assert (target / "adapterhub.json").read_bytes() == before
    oldest = list_versions(target)[0]
    assert rollback(target, oldest.id[:6].upper()).id == oldest.id
    assert read_adapter(target).config["r"] == 1
    save(target, 4)
    assert sorted(map(str, seeds(target))) == ["1", "2", "3", "4"]


def test_a_deleted_adapter_comes_back(tmp_path: Path) -> None:
    target = tmp_path / "a"
    save(target, 1)
    delete_adapter(target)
    assert not target.exists()
    with pytest.raises(AdapterNotFoundError):
        delete_adapter(target)
    rollback(target)
    assert read_adapter(target).config["r"] == 1
    delete_adapter(target, keep=0)
    assert sorted(p.name for p in tmp_path.iterdir()) == []
    with pytest.raises(StorageError, match="no earlier versions"):
        rollback(target)


def test_a_folder_with_other_files_is_not_deleted(tmp_path: Path) -> None:
    save(tmp_path / "a", 1)
    (tmp_path / "a" / "thesis.tex").write_text("x")
    with pytest.raises(StorageError, match=r"thesis\.tex"):
        delete_adapter(tmp_path / "a")
    assert read_adapter(tmp_path / "a")


def test_none_are_kept_where_none_are_wanted(tmp_path: Path) -> None:
    target = tmp_path / "a"
    for version in (1, 2):
        write_adapter(target, tensors=good_tensors(version), config={}, manifest=manifest(version), keep=0)
    assert not (tmp_path / ".a.history").exists()
    for version in (3, 4, 5):
        save(target, version)
    trim(target, 1)
    assert seeds(target) == [4, 5]
    assert len(objects(target)) == 3
    trim(target, 0)
    assert not (tmp_path / ".a.history").exists()
    assert read_adapter(target)


def test_unknown_and_ambiguous_versions(tmp_path: Path) -> None:
    target = tmp_path / "a"
    for version in (1, 2, 3):
        save(target, version)
    with pytest.raises(StorageError, match=r"no version 'nope'; there are: [0-9a-f]{12}, [0-9a-f]{12}$"):
        rollback(target, "nope")
    with pytest.raises(StorageError, match="no version ''"):
        rollback(target, "")
    assert read_adapter(target).config["r"] == 3


def test_a_damaged_version_is_not_put_back(tmp_path: Path) -> None:
    target = tmp_path / "a"
    save(target, 1)
    save(target, 2)
    tensors = list_versions(target)[0].manifest.files["adapter_model.safetensors"]
    place = tmp_path / ".a.history" / "objects" / tensors.sha256
    data = bytearray(place.read_bytes())
    data[-1] ^= 1
    place.write_bytes(data)
    with pytest.raises(AdapterCorruptError, match="not what was saved"):
        rollback(target)
    place.write_bytes(data[:-1])
    with pytest.raises(AdapterCorruptError, match="damaged"):
        rollback(target)
    place.unlink()
    with pytest.raises(AdapterCorruptError, match="missing"):
        rollback(target)
    assert read_adapter(target).config["r"] == 2


def test_a_damaged_adapter_is_replaced_but_not_kept(tmp_path: Path) -> None:
    target = tmp_path / "a"
    save(target, 1)
    (target / "adapter_model.safetensors").write_bytes(b"x")
    save(target, 2)
    assert seeds(target) == [2]


def test_a_file_in_the_store_is_not_the_file_outside(tmp_path: Path) -> None:
    """A hard link planted in an adapter is never written through."""
    target = tmp_path / "a"
    save(target, 1)
    outside = tmp_path / "outside"
    os.link(target / "adapter_model.safetensors", outside)
    save(target, 2)
    rollback(target)
    delete_adapter(target, keep=0)
    assert outside.read_bytes() == good_tensors(1)


def test_a_history_that_is_a_link_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "a"
    save(target, 1)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".a.history").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="symbolic link"):
        save(target, 2)
    assert read_adapter(target).config["r"] == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_where_files_cannot_be_linked_they_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(history.os, "link", refuse)
    target = tmp_path / "a"
    for version in (1, 2, 3):
        save(target, version)
    rollback(target)
    assert seeds(target) == [1, 3, 2]
    assert open_adapter(target)[1] == good_tensors(2)
