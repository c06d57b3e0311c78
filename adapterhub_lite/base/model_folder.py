"""The folder of a base: which files its weights are, and that nothing in it reaches beyond it. No torch here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adapterhub_lite.errors import BaseNotFoundError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
READ = (".json", ".safetensors", ".txt", ".model", ".jinja")
"""How the names of the files end that are read when a base is loaded."""
CONFIG_LIMIT = 4 << 20
INDEX_LIMIT = 64 << 20
TEMPLATE_LIMIT = 1 << 20
TOKENIZER_LIMIT = 256 << 20
"""Bytes that such files may have; the largest known are a tenth of it or less."""
_WEIGHTS_NAME = re.compile(r"[\w-][\w. -]*\.safetensors(\.index\.json)?")
_KERNELS = ("attn_implementation", "experts_implementation")


def check_folder(folder: Path) -> None:
    """Check that the files of a base are what they seem, before any library reads them.

    Raises:
        BaseNotFoundError: a link out of the folder, an adapter that transformers would put into the model, a
            configuration that is none, that asks for code or says that the weights are quantized; names the file.
    """
    for path in sorted(folder.iterdir()):
        if path.is_symlink() and (path.suffix in READ or path.is_dir()):
            _check_inside(folder, path)
    if (folder / "adapter_config.json").is_file():
        raise BaseNotFoundError(
            f"{folder} has an adapter_config.json beside its config.json, and transformers would put that adapter into the "
            "base; move adapter_config.json and the adapter's weights to a folder of their own"
        )
    for name, limit in {"tokenizer.json": TOKENIZER_LIMIT, "chat_template.jinja": TEMPLATE_LIMIT}.items():
        _check_size(folder / name, limit)
    for name in ("tokenizer_config.json", "generation_config.json", "preprocessor_config.json", "modules.json"):
        if (folder / name).is_file():
            read_object(folder / name, CONFIG_LIMIT, list if name == "modules.json" else dict)
    _check_config(folder / "config.json")


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers reads the weights from, in the order of their names.

    Raises:
        BaseNotFoundError: there are none, or the index names what is no file of the folder.
    """
    explicit = read_object(folder / "config.json", CONFIG_LIMIT).get("transformers_weights")
    if explicit is not None:
        _check_name(folder, explicit, "config.json")
        index = folder / explicit if explicit.endswith(".index.json") else None
        single = folder / explicit
    else:
        single, index = folder / WEIGHTS, folder / INDEX
        index = index if index.is_file() and not single.is_file() else None
    if index is None:
        if single.is_file():
            return [single]
        raise BaseNotFoundError(_without_weights(folder))
    listed = read_object(index, INDEX_LIMIT).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise BaseNotFoundError(f"{index} has no 'weight_map' of tensors and their files; fetch it anew")
    for name in listed.values():
        _check_name(folder, name, index.name)
    for name in sorted(set(listed.values())):
        if not (folder / name).is_file():
            raise BaseNotFoundError(f"{index} names {name}, which is missing; fetch that file, or the base anew")
    return sorted(folder / name for name in set(listed.values()))


def read_object(path: Path, limit: int, kind: type = dict) -> Any:
    """What a JSON file of a base holds: an object, or a list where `kind` says so.

    Raises:
        BaseNotFoundError: it is missing, larger than `limit` bytes, no JSON, or something else.
    """
    _check_size(path, limit)
    try:
        # As transformers reads it: Infinity is a number in the configurations of some models.
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())[:120]
        raise BaseNotFoundError(f"{path} is not readable JSON ({why}); fetch the file anew") from None
    if not isinstance(parsed, kind):
        wanted = "a JSON object" if kind is dict else "a JSON array"
        raise BaseNotFoundError(f"{path} is not {wanted} but {type(parsed).__name__}; fetch the file anew")
    return parsed


def _check_config(path: Path) -> None:
    for config in _objects(read_object(path, CONFIG_LIMIT)):
        for key in ("quantization_config", "compression_config"):
            stored = config.get(key)
            if stored is not None:
                method = stored.get("quant_method") if isinstance(stored, dict) else None
                raise BaseNotFoundError(
                    f"{path}: '{key}' says that the weights are stored quantized ({method or 'in an unnamed way'}); an adapter "
                    "records how its base is quantized, so give the unquantized model, and --quantize nf4, fp4 or int8"
                )
        for key, value in config.items():
            if "drop" in key and isinstance(value, (int, float)) and not 0 <= value <= 1:
                raise BaseNotFoundError(f"{path}: '{key}' is {value!r}, and no share from 0 to 1; fetch the file anew")
            names = list(value.values()) if isinstance(value, dict) else [value]
            if key.removeprefix("_").removesuffix("_internal") in _KERNELS:
                for name in names:
                    if isinstance(name, str) and "/" in name:
                        raise BaseNotFoundError(
                            f"{path}: '{key}' names {name[:80]!r}, code from a hub, which no file may ask for; "
                            "take that line out of the file"
                        )


def _objects(document: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON document, itself included."""
    stack = [document]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _check_name(folder: Path, name: Any, where: str) -> None:
    if not isinstance(name, str) or not _WEIGHTS_NAME.fullmatch(name):
        raise BaseNotFoundError(
            f"{folder / where} names {str(name)[:80]!r}, which is no *.safetensors file in that folder; the files of a base "
            "lie beside each other: fetch it anew"
        )


def _check_inside(folder: Path, link: Path) -> None:
    """Check where a link leads: the hub's cache has its files in `blobs`, beside the `snapshots` with links to them."""
    target, home = link.resolve(), folder.resolve()
    blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
    if not target.is_relative_to(home) and target.parent != blobs:
        raise BaseNotFoundError(
            f"{link} is a link to {target}, out of the folder; copy the base with its links followed (cp -rL)"
        )


def _check_size(path: Path, limit: int) -> None:
    if path.is_file() and path.stat().st_size > limit:
        raise BaseNotFoundError(
            f"{path} has {path.stat().st_size:,} bytes where at most {limit:,} are expected; fetch the file anew"
        )


def _without_weights(folder: Path) -> str:
    pickled = [path.name for path in [*folder.glob("*.bin"), *folder.glob("*.pt")]]
    if pickled:
        return (
            f"{folder} has its weights in {pickled[0]}, a pickle, which can run code when loaded; convert it once with "
            "transformers' `save_pretrained` (safetensors) in a place you trust"
        )
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if others:
        return (
            f"{folder} has {others[0]}, but neither {WEIGHTS} nor {INDEX}, which say what the weights are; give a folder "
            "that `save_pretrained` wrote"
        )
    return f"{folder} has a config.json but no *.safetensors weights"
