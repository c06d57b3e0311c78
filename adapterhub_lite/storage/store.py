"""Writing an adapter, and reading one that may have been damaged, edited or forged."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import JsonValue

from adapterhub_lite.errors import AdapterCorruptError, AdapterHubError, StorageError
from adapterhub_lite.storage.commit import commit_directory, resolve
from adapterhub_lite.storage.find import find_adapter, identity, plain_files
from adapterhub_lite.storage.finite import check_finite
from adapterhub_lite.storage.header import TensorInfo, header_of, parse_header
from adapterhub_lite.storage.history import KEEP, keep_version
from adapterhub_lite.storage.layout import CONFIG, MANIFEST, SIGNATURE, TENSORS, case_clash, is_file_name, is_pickle
from adapterhub_lite.storage.manifest import (
    MAX_MANIFEST_BYTES,
    FileRecord,
    Manifest,
    TaskRecord,
    decode_manifest,
    encode_manifest,
)
from adapterhub_lite.storage.occupant import refuse_strangers
from adapterhub_lite.storage.plain import open_plain, read_exactly, read_plain, sha256_of, size_of
from adapterhub_lite.storage.strict_json import parse_json

MAX_CONFIG_BYTES = 8 << 20
_ATTEMPTS = 20  # at reading an adapter that is replaced again and again meanwhile
_NO_EXTRA: Mapping[str, bytes] = {}
_CODE_KEYS = (
    "auto_map",
    "custom_pipelines",
    "trust_remote_code",
)  # of a configuration: they make transformers or diffusers import code


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter on disk that has passed every check that needs no model."""

    path: Path
    manifest: Manifest
    config: dict[str, Any]
    """Contents of `adapter_config.json`."""
    tensors: Path
    """The safetensors file; read it with `read_tensor_bytes`, which checks what it returns."""
    header: dict[str, TensorInfo]


def write_adapter(
    target: Path,
    *,
    tensors: bytes,
    config: Mapping[str, JsonValue],
    manifest: Manifest,
    extra: Mapping[str, bytes] = _NO_EXTRA,
    keep: int = KEEP,
) -> Manifest:
    """Save an adapter at `target`, replacing one that is there, and return the manifest with its files filled in.

    The one that was there becomes a version in its history, of which the newest `keep` are kept.

    Raises:
        StorageError: where it cannot be written; what was there before is untouched.
        AdapterCorruptError: where `tensors` are no safetensors bytes.
    """
    for name in extra:
        if not is_file_name(name) or name in (MANIFEST, CONFIG, TENSORS, SIGNATURE):
            raise StorageError(f"cannot save {name!r} in an adapter: not a plain file name, or one that is taken")
    clash = case_clash({MANIFEST, CONFIG, TENSORS, *extra})
    if clash is not None:
        raise StorageError(
            f"cannot save {clash!r} in an adapter: it has a file of that name but for upper and lower case"
        )
    header_of(tensors, Path(target, TENSORS))  # never save what could not be loaded
    refuse_code(config, str(Path(target, CONFIG)))
    try:
        encoded = json.dumps(dict(config), indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise StorageError(f"cannot save {CONFIG} at {target}: not JSON ({error}); correct the config") from None
    contents = {CONFIG: encoded, TENSORS: tensors, **extra}
    files = {
        name: FileRecord(sha256=hashlib.sha256(data).hexdigest(), size=len(data)) for name, data in contents.items()
    }
    complete = manifest.model_copy(update={"files": files})
    sealed = encode_manifest(complete)

    def write(folder: Path) -> None:
        refuse_strangers(resolve(target))  # here, because no other writer can be replacing the adapter now
        for name, data in contents.items():
            (folder / name).write_bytes(data)
        (folder / MANIFEST).write_bytes(sealed)

    commit_directory(target, write, last=MANIFEST, replacing=partial(keep_version, keep=keep))
    return complete


def rewrite_task(path: Path, task: TaskRecord) -> Manifest:
    """Save the adapter at `path` again with another record of its task, all else as it is.

    Raises:
        StorageError: it cannot be written, or is a bundle; it is as it was.
        AdapterNotFoundError, AdapterCorruptError: as `read_adapter`.
    """
    if path.is_file():
        raise StorageError(f"{path} is a bundle, which is not changed; unpack it, and change the adapter in the folder")
    stored, tensors = open_adapter(path)
    others = [(name, record.size) for name, record in stored.manifest.files.items() if name not in (CONFIG, TENSORS)]
    extra = {name: read_plain(stored.tensors.parent / name, size) for name, size in others}
    manifest = stored.manifest.model_copy(update={"task": task})
    return write_adapter(path, tensors=tensors, config=stored.config, manifest=manifest, extra=extra)


def read_adapter(path: Path) -> StoredAdapter:
    """Return the adapter at `path` after checking all that can be checked without its model.

    Plain files only, no pickles, a manifest this version knows and that is as it was saved, every file of the size and
    SHA-256 it lists, and a sound safetensors header. A save at the same time is no problem: the adapter before or the
    one after is returned.

    Raises:
        AdapterNotFoundError: where there is no adapter.
        AdapterCorruptError: where there is one that is not what was saved; names the file and the reason.
    """
    return _read_settled(Path(path), with_tensors=False)[0]


def open_adapter(path: Path) -> tuple[StoredAdapter, bytes]:
    """Return what `read_adapter` and `read_tensor_bytes` return, both of one and the same save; every number finite."""
    stored, data = _read_settled(Path(path), with_tensors=True)
    check_finite(io.BytesIO(data), stored.header, stored.tensors)
    return stored, data


def read_tensor_bytes(stored: StoredAdapter) -> bytes:
    """Return the bytes of the safetensors file, hashed again, so that what is loaded is what was verified.

    Raises:
        AdapterCorruptError: where they are no longer what the manifest says, for instance because the adapter was
            replaced meanwhile; `open_adapter` reads both together.
    """
    expected = stored.manifest.files[TENSORS]
    with open_plain(stored.tensors) as file:
        size = size_of(file)
        data = read_exactly(file, expected.size, stored.tensors) if size == expected.size else b""
    # The header is compared too: it was read from the file at another moment than these bytes.
    if (
        size != expected.size
        or hashlib.sha256(data).hexdigest() != expected.sha256
        or header_of(data, stored.tensors) != stored.header
    ):
        raise AdapterCorruptError(f"{stored.tensors}: changed since the adapter was opened; open it again")
    return data


def adapter_size(path: Path) -> int:
    """Return the bytes that the files of the adapter at `path` take.

    Raises:
        AdapterNotFoundError: where there is no adapter.
    """
    total = 0
    for file in plain_files(find_adapter(Path(path))):
        with suppress(FileNotFoundError):  # replaced at this moment by an adapter with other files
            total += file.lstat().st_size
    return total


def _read_settled(path: Path, *, with_tensors: bool) -> tuple[StoredAdapter, bytes]:
    """Read an adapter, again where it was replaced under our hands."""
    for _ in range(_ATTEMPTS - 1):
        with identity(path) as unchanged:
            try:
                return _read_once(path, with_tensors)
            except AdapterHubError:
                # A manifest from one save and a file from another do not match, which looks like damage.
                if unchanged():
                    raise
    return _read_once(path, with_tensors)


def _read_once(path: Path, with_tensors: bool) -> tuple[StoredAdapter, bytes]:
    folder = find_adapter(path)
    for present in plain_files(folder):
        if is_pickle(present.name):
            raise AdapterCorruptError(
                f"{present}: a pickle file can run code and has no place in an adapter; delete it"
            )
    where = folder / MANIFEST
    manifest = decode_manifest(read_plain(where, MAX_MANIFEST_BYTES), str(where))
    for name in (CONFIG, TENSORS):
        if name not in manifest.files:
            raise AdapterCorruptError(f"{where}: lists no {name}; save the adapter again or fetch it anew")
    clash = case_clash({MANIFEST, *manifest.files})
    if clash is not None:
        raise AdapterCorruptError(f"{where}: {clash[:120]!r} is listed twice but for upper and lower case")
    header: dict[str, TensorInfo] = {}
    payload = b""
    for name, file_record in manifest.files.items():
        if not is_file_name(name) or name in (MANIFEST, SIGNATURE):
            raise AdapterCorruptError(f"{where}: lists {name[:120]!r}, which is no name for an adapter's file")
        with open_plain(folder / name) as file:
            if name == TENSORS and with_tensors:
                _check_size(folder / name, size_of(file), file_record)  # before so much is read
                payload = read_exactly(file, file_record.size, folder / name)
                _check_sha256(folder / name, hashlib.sha256(payload).hexdigest(), file_record)
                header = header_of(payload, folder / name)
                continue
            check_file(folder / name, file, file_record)
            if name == TENSORS:  # from the file just hashed, not from one opened anew
                file.seek(0)
                header = parse_header(file, file_record.size, folder / name)
    data = read_plain(folder / CONFIG, MAX_CONFIG_BYTES)
    _check_size(folder / CONFIG, len(data), manifest.files[CONFIG])
    _check_sha256(folder / CONFIG, hashlib.sha256(data).hexdigest(), manifest.files[CONFIG])
    config = parse_json(data, str(folder / CONFIG))
    if not isinstance(config, dict):
        raise AdapterCorruptError(f"{folder / CONFIG}: not a JSON object; save the adapter again or fetch it anew")
    refuse_code(config, str(folder / CONFIG))
    stored = StoredAdapter(path=path, manifest=manifest, config=config, tensors=folder / TENSORS, header=header)
    return stored, payload


def refuse_code(config: Any, where: str) -> None:
    """Check that nothing in a configuration makes transformers or PEFT import something.

    Raises:
        AdapterCorruptError: naming `where` and the key.
    """
    stack = [config]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            for key in _CODE_KEYS:
                if item.get(key):
                    raise AdapterCorruptError(f"{where}: {key!r} asks to run code, which no adapter may; do not use it")
            # PEFT imports the module named here to find the class of the base.
            mapping = item.get("auto_mapping")
            library = mapping.get("parent_library") if isinstance(mapping, dict) else mapping
            if mapping and not (isinstance(library, str) and library.startswith("transformers.")):
                raise AdapterCorruptError(
                    f"{where}: 'auto_mapping' asks to import {str(library)[:80]!r}; do not use it"
                )
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def check_file(path: Path, file: BinaryIO, record: FileRecord) -> None:
    """Check the size and SHA-256 of an open file that stands at its beginning.

    Raises:
        AdapterCorruptError: naming `path`.
    """
    _check_size(path, size_of(file), record)  # first, so that no more is read than the manifest promises
    _check_sha256(path, sha256_of(file, path), record)


def _check_size(path: Path, size: int, record: FileRecord) -> None:
    if size != record.size:
        raise AdapterCorruptError(
            f"{path}: {size} bytes where {record.size} were saved; save the adapter again or fetch it anew"
        )


def _check_sha256(path: Path, sha256: str, record: FileRecord) -> None:
    if sha256 != record.sha256:
        raise AdapterCorruptError(
            f"{path}: not what was saved (SHA-256 {sha256[:12]}…, expected {record.sha256[:12]}…); "
            "save the adapter again or fetch it anew"
        )
