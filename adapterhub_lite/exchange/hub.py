"""Adapters on a hub: pushed with a model card, pulled with every file verified before it is put in place."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from adapterhub_lite.errors import AdapterCorruptError, AdapterHubError, AdapterNotFoundError, ConfigError, StorageError
from adapterhub_lite.exchange.card import base_hub_id, local_licence, model_card
from adapterhub_lite.storage.bundle import as_folder
from adapterhub_lite.storage.commit import check_writable_target, commit_directory, resolve
from adapterhub_lite.storage.history import KEEP, keep_version
from adapterhub_lite.storage.layout import MANIFEST, MAX_SIGNATURE_BYTES, SIGNATURE, is_file_name
from adapterhub_lite.storage.manifest import MAX_MANIFEST_BYTES, Manifest, decode_manifest
from adapterhub_lite.storage.occupant import refuse_strangers
from adapterhub_lite.storage.plain import open_plain, read_plain
from adapterhub_lite.storage.public import local_reference, public_files
from adapterhub_lite.storage.store import check_file, read_adapter
from adapterhub_lite.training.run.left import left_by_run

CARD = "README.md"
MAX_FILES = 64
_HUB_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)


def make_api() -> Any:
    """The client of the hub that the environment configures (HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE)."""
    from huggingface_hub import HfApi, RepoCard

    class Client(HfApi):  # type: ignore[misc]  # it has no types
        def validate_card(self, text: str) -> None:
            RepoCard(text).validate(repo_type="model")

    return Client(library_name="adapterhub-lite")


def push(
    adapter: Path, repository: str, *, private: bool = False, card: bool = False, probe: bool = True, api: Any = None
) -> str:
    """Upload a verified adapter to a model repository, which is made if need be, and return the URL of the commit.

    Args:
        adapter: A folder or a bundle.
        repository: `owner/name`.
        private: Make the repository private, if it is made.
        card: Replace a model card that is there; otherwise it is left alone, as somebody may have written it.
        probe: Whether the adapter's probe, which holds a few rows of its training data, goes with it.
        api: Stands in for `make_api()`.

    Raises:
        AdapterNotFoundError, AdapterCorruptError: no adapter, or not as it was saved; nothing is uploaded.
        ConfigError: it is signed, and would have to be changed for what it tells.
        StorageError: the hub cannot be reached or refuses.
    """
    repository, revision = _split(repository)
    if revision is not None:
        raise ConfigError(f"{repository}@{revision}: push to {repository}; a commit gets its revision there")
    with as_folder(adapter) as folder, tempfile.TemporaryDirectory(prefix="adapterhub-push-") as name:
        stored = read_adapter(folder)
        read = stored.manifest
        staging = Path(name)
        # Only what the manifest lists goes out, not what else lies in the folder.
        for file in (MANIFEST, *stored.manifest.files):
            shutil.copyfile(stored.tensors.parent / file, staging / file)
        if (stored.tensors.parent / SIGNATURE).is_file():
            (staging / SIGNATURE).write_bytes(read_plain(stored.tensors.parent / SIGNATURE, MAX_SIGNATURE_BYTES))
        for file, content in public_files(stored, probe=probe).items():
            (staging / file).write_bytes(content)
        stored = read_adapter(staging)
        api = api if api is not None else make_api()
        with _in_one_line(f"cannot push to {repository}", StorageError):
            if card or not api.file_exists(repo_id=repository, filename=CARD):
                text = model_card(
                    stored.manifest,
                    peft="peft_type" in stored.config,
                    licence=licence_of_base(stored.manifest, api),
                    figures=left_by_run(adapter, read),
                )
                api.validate_card(text)  # by the hub's own rules, before a repository is made for it
                (staging / CARD).write_text(text, encoding="utf-8")
            api.create_repo(repo_id=repository, private=private, exist_ok=True)
            message = f"adapterhub-lite: {stored.manifest.strategy.name} for {stored.manifest.task.name}"
            # A signature there is of what is replaced; one that is sent is not deleted.
            done = api.upload_folder(
                repo_id=repository, folder_path=staging, commit_message=message, delete_patterns=[SIGNATURE]
            )
        return str(getattr(done, "commit_url", done))


def pull(repository: str, target: Path, *, keep: int = KEEP, api: Any = None) -> Manifest:
    """Download an adapter to the folder `target`, in one atomic step; an adapter there is replaced.

    All files are of one commit. Only those its manifest lists are fetched, of the sizes it lists, and they are copied
    out of the hub's cache, in which they are links.

    Args:
        repository: `owner/name`, or `owner/name@revision`.
        target: The folder.
        keep: How many replaced versions are kept.
        api: Stands in for `huggingface_hub.HfApi`.

    Raises:
        AdapterNotFoundError: no such repository or revision, no adapter of ours in it, or the hub cannot be reached.
        AdapterCorruptError: what was downloaded is not what was saved; the target is as it was.
        StorageError: the target cannot be written.
    """
    repository, revision = _split(repository)
    check_writable_target(target)
    api = api if api is not None else make_api()
    target = resolve(target)
    with _in_one_line(f"cannot pull {repository}", AdapterNotFoundError):
        commit = api.model_info(repo_id=repository, revision=revision).sha
        fetch = partial(api.hf_hub_download, repo_id=repository, revision=commit)
        sealed = read_plain(Path(os.path.realpath(fetch(filename=MANIFEST))), MAX_MANIFEST_BYTES)
    manifest = decode_manifest(sealed, f"{repository}: {MANIFEST}")
    names = list(manifest.files)
    if len(names) > MAX_FILES or SIGNATURE in names or not all(is_file_name(name) for name in names):
        raise AdapterCorruptError(f"{repository}: {MANIFEST} lists {len(names)} files, or names no adapter's file has")
    with _in_one_line(f"cannot pull {repository}", AdapterNotFoundError):
        sizes = {
            info.path: info.size
            for info in api.get_paths_info(repo_id=repository, paths=[*names, SIGNATURE], revision=commit)
        }
        for name, file in manifest.files.items():
            if sizes.get(name) != file.size:  # before anything large is downloaded
                raise AdapterCorruptError(
                    f"{repository}: {name} has {sizes.get(name, 'no')} bytes where {file.size} were saved; ask its owner"
                )
        signed = sizes.get(SIGNATURE, MAX_SIGNATURE_BYTES + 1) <= MAX_SIGNATURE_BYTES
        wanted = [*names, SIGNATURE] if signed else names
        places = {name: Path(os.path.realpath(fetch(filename=name))) for name in wanted}

    def write(folder: Path) -> None:
        refuse_strangers(target)
        for name, place in places.items():
            with open_plain(place) as source, (folder / name).open("xb") as copy:
                shutil.copyfileobj(source, copy)
            if name == SIGNATURE:
                continue
            with open_plain(folder / name) as copied:
                check_file(Path(repository, name), copied, manifest.files[name])
        (folder / MANIFEST).write_bytes(sealed)
        read_adapter(folder)

    commit_directory(target, write, last=MANIFEST, replacing=partial(keep_version, keep=keep))
    return manifest


def licence_of_base(manifest: Manifest, api: Any) -> str | None:
    """The licence of an adapter's base from its own model card, on the hub or on this machine; None where unknown."""
    hub_id = base_hub_id(manifest)
    if hub_id is None:
        return local_licence(local_reference(manifest.base))
    try:
        about = api.model_info(repo_id=hub_id).card_data
    except Exception:  # whatever goes wrong, an unknown licence is said to be unknown
        return None
    licence = getattr(about, "license", None)
    named = getattr(about, "license_name", None) if licence == "other" else None
    return next((name for name in (named, licence) if isinstance(name, str)), None)


def _split(repository: str) -> tuple[str, str | None]:
    name, at, revision = repository.partition("@")
    owner, slash, rest = name.partition("/")
    if not (_HUB_NAME.fullmatch(owner) and slash and _HUB_NAME.fullmatch(rest)) or (at and not revision):
        raise ConfigError(f"'{repository}' is no repository of a hub; write it as owner/name or owner/name@revision")
    return name, revision or None


@contextmanager
def _in_one_line(what: str, kind: type[AdapterHubError]) -> Iterator[None]:
    """Raise any error of the hub's client as `kind`, the lines of its message on one."""
    try:
        yield
    except AdapterHubError:
        raise
    except Exception as error:
        lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
        raise kind(f"{what}: {type(error).__name__}: {'; '.join(lines) or 'no reason given'}") from error
