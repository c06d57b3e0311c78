"""What makes two bases the same: their configuration, their weights and their tokenizer, by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch

from adapterhub_lite.base.map import ModelMap
from adapterhub_lite.base.references import Source
from adapterhub_lite.cache import remembered
from adapterhub_lite.storage.manifest import Fingerprint

# Keys that say how or by whom a model was saved or is to be run, not what it computes.
INCIDENTAL = frozenset(
    {
        "_name_or_path", "_attn_implementation", "_attn_implementation_autoset", "transformers_version", "torch_dtype",
        "dtype", "quantization_config", "use_cache", "id2label", "label2id", "output_attentions",
        "output_hidden_states", "return_dict", "gradient_checkpointing", "problem_type", "architectures",
    }
)  # fmt: skip
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json", "merges.txt", "spiece.model",
    "preprocessor_config.json", "processor_config.json",
)  # fmt: skip
ALWAYS_HASHED = 4 << 20
"""Bytes up to which a file is read each time: some 3 ms, a small part of what loading a model takes."""
TOKENIZER_SETTINGS = ("add_bos_token", "add_eos_token", "add_prefix_space", "do_lower_case", "chat_template")


def fingerprint_of_files(source: Source, model: Any, model_map: ModelMap) -> Fingerprint:
    """Identify a base by the content of its files.

    Args:
        source: The files of the unquantized base; a quantized load of the same files has the same fingerprint.
        model: What was loaded from them.
        model_map: Where its repeated blocks are.
    """
    return Fingerprint(
        architecture=config_hash(model.config.to_dict()),
        weights=weights_hash(source),
        tokenizer=_tokenizer_hash(source),
        vocabulary=model.get_input_embeddings().weight.shape[0] if model_map.modality == "text" else None,
        layers=len(model_map.layers),
    )


def fingerprint_of_module(model: Any, layers: int) -> Fingerprint:
    """Identify a model that exists only in memory by the names, shapes and bytes of its tensors (read once, in order)."""
    shape, content = hashlib.sha256(type(model).__name__.encode()), hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        shape.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        content.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    # Only a language model has one to ask for; others raise, as PatchTST does.
    asks = getattr(model, "main_input_name", None) == "input_ids" and hasattr(model, "get_input_embeddings")
    embedding = model.get_input_embeddings() if asks else None
    rows = getattr(getattr(embedding, "weight", None), "shape", (None,))[0]
    return Fingerprint(
        architecture=shape.hexdigest(), weights=content.hexdigest(), tokenizer=None, vocabulary=rows, layers=layers
    )


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of a configuration without what is incidental."""
    normal = _essential(config)
    # Files saved with a language-modelling head are opened with it, and one layer is then called otherwise.
    normal["generates"] = any(str(name).endswith("ForCausalLM") for name in config.get("architectures") or [])
    return hashlib.sha256(json.dumps(normal, sort_keys=True, default=str).encode()).hexdigest()


def _essential(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration, and those of its parts, without what is incidental."""
    kept = {key: value for key, value in config.items() if key not in INCIDENTAL}
    return {k: _essential(v) if isinstance(v, Mapping) and "model_type" in v else v for k, v in kept.items()}


def weights_hash(source: Source, *, anew: bool = False) -> str:
    """SHA-256 over the hashes of the weight files in order; their names do not count, their contents do."""
    return hashlib.sha256("".join(file_hash(path, anew=anew) for path in source.weights).encode()).hexdigest()


def file_hash(path: Path, *, for_this_boot: bool = False, anew: bool = False) -> str:
    """SHA-256 of a file. That of a large one is remembered, so that a base is read once and not each time.

    Args:
        path: Of the file; a link is followed.
        for_this_boot: Forget it when the machine starts again.
        anew: Read the file whatever is remembered.
    """
    resolved = path.resolve()
    facts = resolved.stat()

    def digest() -> str:
        with resolved.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    if facts.st_size <= ALWAYS_HASHED:
        return digest()
    # The time of the last change of the inode is what no program can set back, as it can that of the content.
    stamp = [resolved, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino, facts.st_dev]
    if for_this_boot:
        stamp.append(f"boot {psutil.boot_time()}")
    return remembered("hashes", "|".join(map(str, stamp)), "[0-9a-f]{64}", digest, anew=anew)


def _tokenizer_hash(source: Source) -> str | None:
    if source.gguf is not None:
        return None  # it is inside the weight file, whose hash covers it
    present = [source.folder / name for name in TOKENIZER_FILES if (source.folder / name).is_file()]
    if not present:
        return None
    parts = [f"{path.name}:{file_hash(path)};" for path in present]
    settings = _tokenizer_settings(source.folder)
    if settings:
        parts.append(json.dumps(settings, sort_keys=True))
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _tokenizer_settings(folder: Path) -> dict[str, Any]:
    """What of `tokenizer_config.json` changes token ids; the rest of it differs with the version that wrote it."""
    settings: dict[str, Any] = {}
    try:
        parsed = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        settings = {key: parsed[key] for key in TOKENIZER_SETTINGS if parsed.get(key) is not None}
    except (OSError, ValueError, AttributeError):
        pass  # there need not be one
    with suppress(OSError):
        settings["chat_template"] = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    return settings
