"""Earlier versions of an adapter: kept when it is replaced, and put back on request.

They lie beside the adapter, which stays exactly what PEFT and `verify` expect:

    .NAME.history/versions/<8 digits>-<id>.json   a manifest as it was; the digits count up, the id is from its SHA-256
    .NAME.history/objects/<sha256>                a file of one or several of them

A file that two versions have in common is there once. Objects are made before the version that needs them and deleted
after it, every one in a single step, so that a version that can be seen is whole. Whoever writes here holds the lock of
the adapter. The version in use is not kept here; where a crash left a copy of it, that copy is not listed.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from adapterhub_lite.errors import AdapterCorruptError, AdapterHubError, StorageError
from adapterhub_lite.storage.disk import sync_directory, sync_file
from adapterhub_lite.storage.layout import MANIFEST
from adapterhub_lite.storage.manifest import MAX_MANIFEST_BYTES, FileRecord, Manifest, decode_manifest
from adapterhub_lite.storage.plain import open_plain, read_plain, sha256_of, size_of

KEEP = 5
"""How many replaced versions are kept unless another number is given."""

_VERSION_FILE = re.compile(r"([0-9]{8})-([0-9a-f]{12})\.json")


@dataclass(frozen=True)
class Version:
    """One version of an adapter."""

    id: str
    """First 12 digits of the SHA-256 of its manifest."""
    manifest: Manifest
    current: bool = False

    @property
    def size(self) -> int:
        """Bytes of its files; those it shares with other versions are counted."""
        return sum(record.size for record in self.manifest.files.values())


def history_folder(target: Path) -> Path:
    """Where the versions of the adapter at `target`, a resolved path, are kept."""
    return target.with_name(f".{target.name}.history")


def list_versions(target: Path) -> list[Version]:
    """Return the kept versions of the adapter at `target`, oldest first, and last the one in use, if there is one.

    Raises:
        AdapterCorruptError: a kept manifest that is not as it was saved.
    """
    target = Path(os.path.realpath(target))
    current = _current(target)
    kept = []
    for path in _version_files(target):
        identity, manifest = _read_version(path)
        if current is None or identity != current.id:
            kept.append(Version(identity, manifest))
    return [*kept, *([current] if current else [])]


def keep_version(target: Path, keep: int = KEEP) -> None:
    """Keep the adapter that is at `target` now, and no more than `keep` versions. Call with the adapter's lock held.

    A damaged adapter is not kept.
    """
    folder = history_folder(target)
    if folder.is_symlink():
        raise StorageError(f"cannot keep the version at {target}: {folder} is a symbolic link; remove it")
    if keep > 0 and (target / MANIFEST).is_file():
        with suppress(AdapterCorruptError):
            _keep(target, folder)
    if folder.is_dir():
        prune(target, keep)


def prune(target: Path, keep: int) -> None:
    """Delete all but the newest `keep` versions, and files that none of those needs. Call with the adapter's lock held."""
    folder = history_folder(target)
    files = _version_files(target)
    for path in files[: max(0, len(files) - keep)]:
        path.unlink()
    left = _version_files(target)
    if not left:
        shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        needed = {record.sha256 for path in left for record in _read_version(path)[1].files.values()}
    except AdapterCorruptError:
        return  # what a damaged version needs is not known; it is reported when it is listed
    for entry in _entries(folder / "objects"):
        if entry.name not in needed:
            entry.unlink()
    for entry in _entries(folder / "versions"):
        if entry.name.startswith(".new-"):
            entry.unlink()


def find_version(target: Path, wanted: str | None) -> Version:
    """Return a kept version by the beginning of its id; without one, the version that was in use before.

    Raises:
        StorageError: where there is none, or several; lists those there are.
    """
    kept = [version for version in list_versions(target) if not version.current]
    if not kept:
        raise StorageError(f"{target} has no earlier versions: none has been replaced since history is kept")
    if wanted is None:
        return kept[-1]
    matches = [version for version in kept if wanted and version.id.startswith(wanted.lower())]
    if len(matches) != 1:
        there = ", ".join(version.id for version in kept)
        what = "several versions match" if matches else "there is no version"
        raise StorageError(f"{target}: {what} {wanted[:40]!r}; there are: {there}")
    return matches[0]


def contents(target: Path, version: Version) -> Iterator[tuple[str, Path, FileRecord]]:
    """Give the name, place and record of each file of a kept version. Call with the adapter's lock held."""
    objects = history_folder(target) / "objects"
    for name, file in version.manifest.files.items():
        yield name, objects / file.sha256, file


def manifest_bytes(target: Path, version: Version) -> bytes:
    """Return the manifest of a kept version as it was saved."""
    for path in _version_files(target):
        if path.name.endswith(f"-{version.id}.json"):
            return read_plain(path, MAX_MANIFEST_BYTES)
    raise StorageError(f"{target}: version {version.id} is no longer kept")


def _keep(target: Path, folder: Path) -> None:
    data = read_plain(target / MANIFEST, MAX_MANIFEST_BYTES)
    manifest = decode_manifest(data, str(target / MANIFEST))
    for inside in (folder, folder / "objects", folder / "versions"):
        inside.mkdir(exist_ok=True)
    for name, file in manifest.files.items():
        with open_plain(target / name) as opened:
            if size_of(opened) != file.size or sha256_of(opened, target / name) != file.sha256:
                raise AdapterCorruptError(f"{target / name}: not what was saved")
        _link_or_copy(target / name, folder / "objects" / file.sha256, file.size)
    sync_directory(folder / "objects")
    identity = _identity(data)
    files = _version_files(target)
    number = int(files[-1].name[:8]) + 1 if files else 1
    for path in files:
        if path.name.endswith(f"-{identity}.json"):  # put back by a rollback, and now replaced again
            path.rename(path.with_name(f"{number:08d}-{identity}.json"))
            break
    else:
        temporary = folder / "versions" / f".new-{secrets.token_hex(8)}"
        temporary.write_bytes(data)
        sync_file(temporary)
        temporary.rename(folder / "versions" / f"{number:08d}-{identity}.json")
    sync_directory(folder / "versions")
    sync_directory(folder)
    sync_directory(folder.parent)


def _link_or_copy(source: Path, place: Path, size: int) -> None:
    """Make `place` a file with the contents of `source`: the same one on the disk, or a copy where that cannot be."""
    with suppress(FileNotFoundError):
        status = place.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_size == size:
            return
        place.unlink()
    try:
        os.link(source, place, follow_symlinks=False)
    except (OSError, NotImplementedError):
        temporary = place.with_name(f".new-{secrets.token_hex(8)}")
        shutil.copyfile(source, temporary, follow_symlinks=False)
        sync_file(temporary)
        temporary.rename(place)


def _current(target: Path) -> Version | None:
    with suppress(AdapterHubError):
        data = read_plain(target / MANIFEST, MAX_MANIFEST_BYTES)
        return Version(_identity(data), decode_manifest(data, str(target / MANIFEST)), current=True)
    return None


def _version_files(target: Path) -> list[Path]:
    """The files of the kept versions, oldest first."""
    return sorted(p for p in _entries(history_folder(target) / "versions") if _VERSION_FILE.fullmatch(p.name))


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []


def _read_version(path: Path) -> tuple[str, Manifest]:
    data = read_plain(path, MAX_MANIFEST_BYTES)
    identity = _identity(data)
    if not path.name.endswith(f"-{identity}.json"):
        raise AdapterCorruptError(f"{path}: not as it was saved; delete it")
    return identity, decode_manifest(data, str(path))


def _identity(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
