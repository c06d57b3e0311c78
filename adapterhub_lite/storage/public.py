"""What an adapter says of the machine it was made on: nothing. Places become names, and what may be secret is left out.

The place of a base and of the data of a run are remembered in the cache of the machine instead.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

import yaml

from adapterhub_lite.cache import cache_dir
from adapterhub_lite.errors import AdapterCorruptError, ConfigError
from adapterhub_lite.names import one_line
from adapterhub_lite.storage.layout import CONFIG, MANIFEST, SIGNATURE
from adapterhub_lite.storage.manifest import (
    MAX_MANIFEST_BYTES,
    BaseRecord,
    FileRecord,
    Manifest,
    encode_manifest,
)
from adapterhub_lite.storage.plain import read_plain
from adapterhub_lite.storage.store import MAX_CONFIG_BYTES, StoredAdapter

RUN_FILE = "run.yaml"
# A user, a password or a token may stand in front of the host, or behind '?' and '#'.
_ADDRESS = re.compile(r"\b([a-zA-Z][\w+.-]*://)(?:[^\s/'\"@]*@)?([^\s'\"?#]*)(?:[?#][^\s'\"]*)?")
_PATH = re.compile(r"(?:~|/|\\\\|[A-Za-z]:[\\/]|\.\.[\\/]).*", re.DOTALL)
_PATH_INSIDE = re.compile(r"(?<![\w./~\\-])(?:~?/[^\s'\"/]+/|[A-Za-z]:\\|\\\\)[^\s'\",;:()]*")
_QUOTED_PATH = re.compile(r"(['\"])((?:~?/|[A-Za-z]:[\\/]|\\\\)(?:(?!\1).)*)\1")
_SCRATCH = re.compile(r"(scratch:\d+:)?(.*)", re.DOTALL)


def public(text: str) -> str:
    """Text in which each path from a root, a home or a folder above is "./" and its last part, and no address has secrets."""
    match = _SCRATCH.fullmatch(text)
    before, rest = (match[1] or "", match[2]) if match else ("", text)
    if _PATH.fullmatch(rest):
        return before + _last_part(rest)
    rest = _QUOTED_PATH.sub(lambda found: found[1] + _last_part(found[2]) + found[1], rest)
    for place in (Path.cwd, Path.home):
        with suppress(OSError, RuntimeError):  # a folder that is gone, or a user without one
            if len(known := str(place())) > 1:  # it may have blanks, at which a path in a sentence is taken to end
                rest = rest.replace(f"{known}{os.sep}", "~/here/")
    plain = _ADDRESS.sub(lambda found: _last_part(found[2]) if found[1] == "file://" else found[1] + found[2], rest)
    return before + _PATH_INSIDE.sub(lambda found: _last_part(found[0]), plain)


def public_json(value: Any) -> Any:
    """A JSON value whose every text is public."""
    match value:
        case str():
            return public(value)
        case dict():
            return {key: public_json(part) for key, part in value.items()}
        case list():
            return [public_json(part) for part in value]
    return value


def public_manifest(manifest: Manifest, *, probe: bool = True) -> Manifest:
    """A manifest that tells no places; `probe` keeps the few rows of training data in it, too."""
    data = manifest.data
    return manifest.model_copy(
        update={
            "base": manifest.base.model_copy(update={"reference": public(manifest.base.reference)}),
            "data": data.model_copy(update={"source": public(data.source)}) if data is not None else None,
            "training": public_json(manifest.training),
            "forced": public_json(manifest.forced),
            "probe": manifest.probe if probe else None,
        }
    )


def public_config(config: dict[str, Any]) -> dict[str, Any]:
    """The contents of `adapter_config.json` without the place of the base."""
    base = config.get("base_model_name_or_path")
    return {**config, "base_model_name_or_path": public(base)} if isinstance(base, str) else dict(config)


def public_run(text: str) -> str:
    """A run file without places; the same text where it has none.

    Raises:
        ConfigError: it is no YAML that a run file would be of.
    """
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):  # which may stand for gigabytes
            raise yaml.YAMLError("it has aliases")
        run = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{RUN_FILE} cannot be read ({one_line(error)}); save the adapter again") from None
    told = public_json(run)
    return text if told == run else yaml.safe_dump(told, sort_keys=False, allow_unicode=True)


def public_files(stored: StoredAdapter, *, probe: bool = True) -> dict[str, bytes]:
    """The files of an adapter that have to be others for it to leave the machine, by name; none where it tells nothing.

    Args:
        stored: A verified adapter.
        probe: Whether the rows of training data in its probe may leave.

    Raises:
        ConfigError: it is signed, and no signature holds for other files; or its run file cannot be read.
    """
    changed: dict[str, bytes] = {}
    config = public_config(stored.config)
    if config != stored.config:
        changed[CONFIG] = json.dumps(config, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"
    if RUN_FILE in stored.manifest.files:
        text = read_plain(stored.tensors.parent / RUN_FILE, MAX_CONFIG_BYTES).decode("utf-8", "replace")
        if (told := public_run(text)) != text:
            changed[RUN_FILE] = told.encode()
    files = {
        name: FileRecord(sha256=hashlib.sha256(changed[name]).hexdigest(), size=len(changed[name])) for name in changed
    }
    manifest = public_manifest(stored.manifest, probe=probe)
    manifest = manifest.model_copy(update={"files": {**manifest.files, **files}})
    if manifest == stored.manifest:
        return {}
    if (stored.tensors.parent / SIGNATURE).is_file():
        raise ConfigError(
            f"{stored.path} is signed, and its signature covers what must not leave the machine (paths, addresses, or rows "
            "of training data); load it, save it as it may leave, and sign that"
        )
    return {**changed, MANIFEST: encode_manifest(manifest)}


def remember(kind: str, public_name: str, local: str) -> None:
    """Keep in this machine's cache what something is called here; a cache that cannot be written keeps nothing."""
    note = _note(kind, public_name)
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(local), encoding="ascii")


def recall(kind: str, public_name: str) -> str | None:
    """What `remember` kept; None where it is not there."""
    with suppress(OSError, ValueError):
        kept = json.loads(_note(kind, public_name).read_text(encoding="ascii"))
        return kept if isinstance(kept, str) else None
    return None


def remember_run(told: str, local: str, manifest: Manifest) -> None:
    """Keep a run file with the places of this machine, for the adapter of `manifest` whose own run file says `told`."""
    remember("runs", hashlib.sha256(encode_manifest(manifest)).hexdigest(), local)
    kept = recall("runs", told)
    remember("runs", told, local if kept in (None, local) else "")  # several runs that differ in their places alone


def local_run(told: str, place: Path) -> str:
    """The run file at `place` with the places of this machine; `told`, what it says, where those are not known.

    They are those of the adapter beside it; where there is none, of the one run here that says the same.
    """
    with suppress(AdapterCorruptError):  # none there, or one that says nothing
        sealed = read_plain(place.with_name(MANIFEST), MAX_MANIFEST_BYTES)
        own = recall("runs", hashlib.sha256(sealed).hexdigest())
        if own is not None and public_run(own) == told:
            return own
    return recall("runs", told) or told


def remember_base(record: BaseRecord, reference: str) -> None:
    """Keep where a base lies whose record only has a name."""
    match = _SCRATCH.fullmatch(reference)
    if record.reference != reference and match is not None:
        remember("bases", _identity(record), (match[1] or "") + str(Path(match[2]).expanduser().absolute()))


def local_reference(record: BaseRecord) -> str:
    """Where a recorded base lies on this machine; as recorded where that is not known, or it is no longer there."""
    kept = recall("bases", _identity(record)) if public(record.reference).startswith(("./", "scratch:")) else None
    match = _SCRATCH.fullmatch(kept or "")
    there = match is not None and bool(match[2]) and Path(match[2]).expanduser().exists()
    return kept if kept is not None and there else record.reference


def _identity(record: BaseRecord) -> str:
    return f"{record.fingerprint.weights} {record.fingerprint.architecture} {record.fingerprint.tokenizer}"


def _note(kind: str, public_name: str) -> Path:
    return cache_dir() / "places" / kind / hashlib.sha256(public_name.encode()).hexdigest()


def _last_part(path: str) -> str:
    return f"./{PurePath(path.replace(chr(92), '/')).name}"
