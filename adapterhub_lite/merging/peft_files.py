"""Reading an adapter that PEFT wrote: its configuration and its tensors, and nothing that could run code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from adapterhub_lite.errors import AdapterCorruptError, AdapterNotFoundError, NotSupportedError
from adapterhub_lite.storage import CONFIG, MANIFEST, TENSORS
from adapterhub_lite.storage.header import header_of
from adapterhub_lite.storage.plain import read_plain
from adapterhub_lite.storage.strict_json import parse_json

PREFIX = "base_model.model."
INCIDENTAL = frozenset(
    {
        "peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode", "auto_mapping",
        "peft_version",
    }
)  # fmt: skip
"""Settings that say nothing about what an adapter computes."""
MAX_CONFIG_BYTES = 16 << 20
MAX_TENSOR_BYTES = 64 << 30


@dataclass(frozen=True)
class PeftFiles:
    """An adapter as PEFT saved it."""

    folder: Path
    method: str
    """`peft_type` in lower case."""
    config: dict[str, Any]
    tensors: dict[str, Tensor]


def read_peft(folder: Path) -> PeftFiles:
    """Read a folder that `PeftModel.save_pretrained` wrote.

    Raises:
        AdapterNotFoundError: no such folder.
        NotSupportedError: an adapter of ours, or weights in a pickle.
        AdapterCorruptError: files that are not what they should be.
    """
    if not (folder / CONFIG).is_file():
        raise AdapterNotFoundError(f"{folder} has no {CONFIG}; give a folder that PEFT's `save_pretrained` wrote")
    if (folder / MANIFEST).is_file():
        raise NotSupportedError(f"{folder} is an adapter of adapterhub-lite already; use it as it is")
    if not (folder / TENSORS).is_file():
        pickled = (
            " in a pickle, which can run code when it is loaded" if (folder / "adapter_model.bin").is_file() else ""
        )
        raise NotSupportedError(
            f"{folder} has no {TENSORS}{', but its weights' + pickled if pickled else ''}; save it with safetensors"
        )
    config = parse_json(read_plain(folder / CONFIG, MAX_CONFIG_BYTES), str(folder / CONFIG))
    if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
        raise AdapterCorruptError(f"{folder / CONFIG}: not a PEFT configuration: it names no peft_type")
    payload = read_plain(folder / TENSORS, MAX_TENSOR_BYTES)
    header_of(payload, folder / TENSORS)
    return PeftFiles(folder, config["peft_type"].lower(), config, safetensors.torch.load(payload))


def local_names(names: list[str], model: Any) -> dict[str, str]:
    """The name in the base of each name in a file, which may be with or without the prefix that a head adds.

    Args:
        names: Without "base_model.model.".
        model: The base.
    """
    prefix = model.base_model_prefix
    modules = {path for path, _ in model.named_modules()}

    def missing(name: str) -> int:
        """How many of the last parts of a name are below every module of the model."""
        parts = name.split(".")
        return next(i for i in range(len(parts) + 1) if ".".join(parts[: len(parts) - i]) in modules)

    def here(name: str) -> str:
        return min((name, f"{prefix}.{name}", name.removeprefix(f"{prefix}.")), key=missing)

    return {name: here(name) for name in names}


def refuse_settings(config: Mapping[str, Any], known: frozenset[str], defaults: Mapping[str, Any]) -> None:
    """Refuse a PEFT configuration that asks for more than the reader of it understands.

    Args:
        config: PEFT's `adapter_config.json`.
        known: Settings that the reader takes over, or that change nothing in a trained adapter.
        defaults: What PEFT assumes where a setting is not given.

    Raises:
        NotSupportedError: naming the first other setting that is neither switched off nor PEFT's default.
    """
    for key, value in config.items():
        if key not in known | INCIDENTAL and value != defaults.get(key) and value not in (None, False, {}, []):
            raise NotSupportedError(f"{key}={value!r} cannot be represented here")
