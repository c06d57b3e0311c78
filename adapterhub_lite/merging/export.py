"""Writing an adapter for other tools: PEFT, and llama.cpp's LoRA in GGUF."""

from __future__ import annotations

import json
import math
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
from torch import Tensor

from adapterhub_lite.base.references import resolve
from adapterhub_lite.errors import NotSupportedError, StorageError
from adapterhub_lite.merging.factors import PREFIX
from adapterhub_lite.merging.peft_prefix import prefix_to_peft
from adapterhub_lite.storage import CONFIG, TENSORS, commit_directory, open_adapter
from adapterhub_lite.storage.durable import sync_directory, sync_file
from adapterhub_lite.training.attachment import HEAD

if TYPE_CHECKING:
    from gguf import MODEL_ARCH

    from adapterhub_lite.base.loading import Base
    from adapterhub_lite.engine import Engine

HEAD_FILE = "head.safetensors"

# Model types whose weights llama.cpp's converter names by its tensor map and leaves as they are, or turns about as
# below. Others are changed in ways of their own on conversion.
ARCHITECTURES = {
    "llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3", "gemma": "GEMMA", "gemma2": "GEMMA2",
}  # fmt: skip
TURNED = frozenset({"llama", "mistral"})
"""Model types whose query and key weights have their rows in another order in GGUF, for another form of rotation."""


def export_peft(adapter: Path, out: Path, engine: Engine, *, base: Base | str | None = None) -> list[str]:
    """Write what PEFT's `save_pretrained` would have: its configuration and its tensors.

    A classifier's head has no place in PEFT's format; it is written beside it, as head.safetensors.

    Args:
        adapter: The adapter's directory.
        out: The folder to make.
        engine: Loads the base, which only a prefix needs: its keys are turned to other positions.
        base: A base or a reference to use instead of the recorded one.

    Returns:
        Notes worth telling.

    Raises:
        NotSupportedError: a strategy without a PEFT form.
        StorageError: a folder in use.
    """
    stored, payload = open_adapter(adapter)
    prefix = stored.manifest.strategy.name == "prefix" and stored.manifest.task.name == "causal-lm"
    if "peft_type" not in stored.config and not prefix:
        raise NotSupportedError(
            f"{adapter} is an adapter of strategy '{stored.manifest.strategy.name}', which PEFT has no form of"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StorageError(f"cannot export to {out}: it is not an empty folder; choose a new one")
    tensors = safetensors.torch.load(payload)
    head = {name.removeprefix(HEAD): tensor for name, tensor in tensors.items() if name.startswith(HEAD)}
    body = {name: tensor for name, tensor in tensors.items() if not name.startswith(HEAD)}
    config = stored.config
    if prefix:
        loaded = engine.load_adapter(adapter, base=base, device="cpu")  # which checks that it is the right base
        loaded.detach()
        config, body = prefix_to_peft(str(adapter), loaded.base, body)
        config = {**config, "base_model_name_or_path": loaded.base.reference, "revision": loaded.base.revision}

    def write(folder: Path) -> None:
        (folder / TENSORS).write_bytes(safetensors.torch.save(body, metadata={"format": "pt"}))
        if head:
            labels = json.dumps(stored.manifest.task.labels)
            (folder / HEAD_FILE).write_bytes(safetensors.torch.save(head, metadata={"format": "pt", "labels": labels}))
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    commit_directory(out, write, last=CONFIG)
    pooling = stored.manifest.task.preprocessing.get("pooling")
    return [f"the head is in {HEAD_FILE}: a linear layer on features pooled by '{pooling}'"] if head else []


def export_gguf(adapter: Path, out: Path, *, base: str | None = None) -> int:
    """Write a LoRA adapter as llama.cpp reads it (`--lora`), in fp32.

    Returns:
        The number of weights it adapts.

    Raises:
        NotSupportedError: what llama.cpp has no form of: DoRA, heads, other architectures, layers it names otherwise.
        StorageError: a file that is there, or cannot be written.
    """
    import gguf
    from transformers import AutoConfig

    stored, payload = open_adapter(adapter)
    manifest = stored.manifest
    settings: dict[str, Any] = dict(manifest.strategy.config)
    if manifest.strategy.name != "lora":
        raise NotSupportedError(f"{adapter}: llama.cpp knows LoRA adapters, not strategy '{manifest.strategy.name}'")
    if settings.get("dora"):
        raise NotSupportedError(f"{adapter}: llama.cpp has no DoRA; merge the adapter and convert the model")
    if manifest.task.name != "causal-lm":
        raise NotSupportedError(
            f"{adapter}: llama.cpp adapts language models, and this adapter is for {manifest.task.name}"
        )
    if out.exists():
        raise StorageError(f"cannot export to {out}: it is there already; choose a new name")
    source = resolve(base or manifest.base.reference)
    config = AutoConfig.from_pretrained(source.folder, **({"gguf_file": source.gguf} if source.gguf else {}))
    kind = ARCHITECTURES.get(config.model_type)
    if kind is None:
        raise NotSupportedError(
            f"{adapter}: no GGUF export for models of type '{config.model_type}', only {', '.join(sorted(ARCHITECTURES))}"
        )
    architecture: MODEL_ARCH = getattr(gguf.MODEL_ARCH, kind)
    rank, alpha = settings["rank"], settings["alpha"] if settings["alpha"] is not None else 2 * settings["rank"]
    # llama.cpp multiplies by alpha / rank, whatever the adapter was trained with.
    alpha = alpha * math.sqrt(rank) if settings.get("rslora") else alpha
    tensors = _gguf_tensors(safetensors.torch.load(payload), architecture, config, str(adapter))

    partial = out.with_name(f".{out.name}.{secrets.token_hex(8)}")
    try:
        writer = gguf.GGUFWriter(partial, gguf.MODEL_ARCH_NAMES[architecture])
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(alpha))
        for name, tensor in tensors.items():
            writer.add_tensor(name, tensor.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        sync_file(partial)
        partial.replace(out)
        sync_directory(out.absolute().parent)
    except OSError as error:
        raise StorageError(f"cannot export to {out}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return len(tensors) // 2


def _gguf_tensors(tensors: dict[str, Tensor], architecture: Any, config: Any, where: str) -> dict[str, Tensor]:
    import gguf

    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    found = {}
    for name, tensor in sorted(tensors.items()):
        path, _, kind = name.removeprefix(PREFIX).rpartition(".lora_")
        target = names.get_name(f"{path}.weight", try_suffixes=(".weight",))
        if kind not in ("A.weight", "B.weight") or target is None or not target.startswith("blk."):
            raise NotSupportedError(f"{where}: '{name}' has no place in a GGUF adapter")
        values = tensor.float().contiguous()
        if kind == "B.weight" and config.model_type in TURNED and target.endswith(("attn_q.weight", "attn_k.weight")):
            heads = config.num_attention_heads if target.endswith("attn_q.weight") else config.num_key_value_heads
            values = turn_rows(values, heads)
        found[f"{target}.lora_{kind[0].lower()}"] = values
    return found


def turn_rows(weight: Tensor, heads: int) -> Tensor:
    """From the order of rows of transformers, halves of a head, to that of GGUF, pairs of neighbours."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns).contiguous()
