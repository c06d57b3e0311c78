"""An adapter in one file, `NAME.adapter.zip`, for mail and object stores."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from adapterhub_lite.errors import AdapterCorruptError, AdapterNotFoundError, ConfigError, StorageError
from adapterhub_lite.storage.commit import commit_directory, resolve
from adapterhub_lite.storage.disk import replacing_file
from adapterhub_lite.storage.history import KEEP, keep_version
from adapterhub_lite.storage.layout import MANIFEST, MAX_SIGNATURE_BYTES, SIGNATURE
from adapterhub_lite.storage.manifest import MAX_MANIFEST_BYTES, Manifest, decode_manifest
from adapterhub_lite.storage.occupant import refuse_strangers
from adapterhub_lite.storage.plain import open_plain
from adapterhub_lite.storage.public import public_files
from adapterhub_lite.storage.store import StoredAdapter, check_file, open_adapter, read_adapter
from adapterhub_lite.storage.zip_reader import Member, copy_member, read_members

SUFFIX = ".adapter.zip"
_MAX_BYTES = (1 << 32) - 1  # of a ZIP file without extensions
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same adapter is packed to the same bytes whenever and by whomever


def pack(adapter: Path, out: Path, *, probe: bool = True) -> Path:
    """Write the verified adapter at `adapter` to the file `out`, in one atomic step, and return its path.

    What tells of this machine is left out; without `probe` also the few rows of training data in the adapter's probe.

    Raises:
        AdapterNotFoundError, AdapterCorruptError: no adapter there, or not as it was saved.
        ConfigError: a name that does not end in `.adapter.zip`, or a signed adapter that would have to be changed.
        StorageError: it cannot be written, or is too large for a bundle.
    """
    if not out.name.endswith(SUFFIX) or out.name == SUFFIX:
        raise ConfigError(f"{out}: the name of a bundle ends in {SUFFIX}; for example {out.name.split('.')[0]}{SUFFIX}")
    if out.is_dir():
        raise StorageError(f"cannot write {out}: it is a folder; choose another name")
    stored = read_adapter(adapter)
    folder = stored.tensors.parent
    files = stored.manifest.files
    if sum(file.size for file in files.values()) > _MAX_BYTES - (1 << 20):
        raise StorageError(f"{adapter} has over 4 GB, too much for a bundle; use `adapterhub-lite push`")
    changed = public_files(stored, probe=probe)
    temporary = out.with_name(f".{out.name}.staging-{secrets.token_hex(8)}")
    signature = (SIGNATURE,) if (folder / SIGNATURE).is_file() else ()  # the manifest does not list it
    with replacing_file(out, temporary):
        with zipfile.ZipFile(temporary, "x", zipfile.ZIP_STORED, allowZip64=False) as archive:
            for name in (MANIFEST, *sorted(files), *signature):
                member = zipfile.ZipInfo(name, _EPOCH)
                member.create_system, member.external_attr = 3, 0o100644 << 16
                if name in changed:
                    archive.writestr(member, changed[name])
                    continue
                with open_plain(folder / name) as source:
                    archive.writestr(member, source.read())
        _check(temporary)  # what is handed out has been read back
    return out


def unpack(bundle: Path, target: Path, *, keep: int = KEEP) -> Manifest:
    """Write the adapter in a bundle to the folder `target`, in one atomic step; an adapter there is replaced.

    Raises:
        AdapterNotFoundError: no such file.
        AdapterCorruptError: no bundle, or not as it was packed; nothing but a staging folder was touched.
        StorageError: the folder cannot be written.
    """
    _check(bundle)  # before anything is made
    target = resolve(target)

    def write(folder: Path) -> None:
        refuse_strangers(target)
        extract(bundle, folder)

    commit_directory(target, write, last=MANIFEST, replacing=partial(keep_version, keep=keep))
    return read_adapter(target).manifest


def extract(bundle: Path, folder: Path) -> None:
    """Write the files of a bundle into an empty folder, and verify what was written."""
    with _opened(bundle) as (file, manifest, members):
        for member in members:
            with (folder / member.name).open("xb") as copy:
                copy_member(file, member, copy.write, bundle)
        for name, expected in manifest.files.items():
            with open_plain(folder / name) as written:
                check_file(bundle / name, written, expected)
    read_adapter(folder)


def _check(bundle: Path) -> None:
    """Check a bundle without writing anything."""
    with _opened(bundle) as (file, manifest, members):
        for member in members[1:]:
            digest = hashlib.sha256()
            copy_member(file, member, digest.update, bundle)
            if member.name != SIGNATURE and digest.hexdigest() != manifest.files[member.name].sha256:
                raise AdapterCorruptError(f"{bundle}: {member.name!r} is not what was saved; fetch it anew")


@contextmanager
def as_folder(path: Path) -> Iterator[Path]:
    """Give the folder of an adapter: the path itself, or for a bundle a temporary folder it is unpacked to."""
    if not (path.name.endswith(".zip") and path.is_file()):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="adapterhub-") as name:
        extract(path, Path(name))
        yield Path(name)


def open_any(path: Path) -> tuple[StoredAdapter, bytes]:
    """Return what `open_adapter` returns, for a folder or a bundle."""
    with as_folder(path) as folder:
        return open_adapter(folder)


def manifest_of(path: Path) -> Manifest:
    """Return the manifest of a verified adapter, in a folder or a bundle."""
    with as_folder(path) as folder:
        return read_adapter(folder).manifest


@contextmanager
def _opened(bundle: Path) -> Iterator[tuple[BinaryIO, Manifest, list[Member]]]:
    """Open a bundle and check its members against its manifest: the same files, of the same sizes, no others."""
    if not bundle.is_file():
        raise AdapterNotFoundError(f"no bundle at {bundle}: there is no such file")
    with open_plain(Path(os.path.realpath(bundle))) as file:
        members = read_members(file, bundle)
        if not members or members[0].name != MANIFEST or members[0].size > MAX_MANIFEST_BYTES:
            raise AdapterCorruptError(
                f"{bundle}: its first member is no {MANIFEST}; make it with `adapterhub-lite pack`"
            )
        parts: list[bytes] = []
        copy_member(file, members[0], parts.append, bundle)
        manifest = decode_manifest(b"".join(parts), f"{bundle}: {MANIFEST}")
        sizes = {member.name: member.size for member in members[1:]}
        if sizes.pop(SIGNATURE, 0) > MAX_SIGNATURE_BYTES:
            raise AdapterCorruptError(f"{bundle}: its {SIGNATURE} is too large for a signature; fetch it anew")
        if sizes != {name: record.size for name, record in manifest.files.items()}:
            differing = sorted(set(sizes) ^ set(manifest.files)) or ["a size"]
            raise AdapterCorruptError(
                f"{bundle}: its files are not those its manifest lists: {differing[0]!r}; fetch it anew"
            )
        yield file, manifest, members
