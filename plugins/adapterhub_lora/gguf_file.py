"""A LoRA adapter as llama.cpp reads it (`--lora`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from adapterhub_lite.api import NotSupportedError
from adapterhub_lora import LoraConfig
from adapterhub_lora.scales import alpha_of, scale_at
from adapterhub_lora.updates import FILE_PREFIX

if TYPE_CHECKING:
    from gguf import MODEL_ARCH

# Model types whose weights llama.cpp's converter names by its tensor map and leaves as they are, or turns about as
# below. Others are changed in ways of their own on conversion.
ARCHITECTURES = {
    "llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3", "gemma": "GEMMA", "gemma2": "GEMMA2",
}  # fmt: skip
TURNED = frozenset({"llama", "mistral"})
"""Model types whose query and key weights have their rows in another order in GGUF, for another form of rotation."""


def write_gguf(path: Path, config: LoraConfig, tensors: Mapping[str, Tensor], model_config: Any) -> int:
    """Write an adapter in fp32.

    Returns:
        The number of weights it adapts.

    Raises:
        NotSupportedError: what llama.cpp has no form of: DoRA, biases, other architectures, layers it names otherwise.
    """
    import gguf

    if config.dora:
        raise NotSupportedError("llama.cpp has no DoRA; merge the adapter and convert the model")
    if config.bias != "none":
        raise NotSupportedError("llama.cpp adapts no biases; merge the adapter and convert the model")
    kind = ARCHITECTURES.get(model_config.model_type)
    if kind is None:
        raise NotSupportedError(
            f"no GGUF export for models of type '{model_config.model_type}', only {', '.join(sorted(ARCHITECTURES))}"
        )
    architecture: MODEL_ARCH = getattr(gguf.MODEL_ARCH, kind)
    # llama.cpp multiplies by one alpha for all, divided by the rank of each weight, whatever the adapter was trained with.
    alpha = alpha_of(config) * (math.sqrt(config.rank) if config.rslora else 1)
    named = _named(_at_one_alpha(tensors, config, alpha), architecture, model_config)
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(alpha))
    for name, tensor in named.items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return len(named) // 2


def _at_one_alpha(tensors: Mapping[str, Tensor], config: LoraConfig, alpha: float) -> dict[str, Tensor]:
    """The factors, where a layer's scale is another one than alpha divided by its rank with B multiplied by the rest."""
    scaled = dict(tensors)
    for name, tensor in tensors.items():
        path, _, kind = name.removeprefix(FILE_PREFIX).rpartition(".lora_")
        if kind == "B.weight":
            rest = scale_at(config, path) / (alpha / tensor.shape[1])
            scaled[name] = tensor if math.isclose(rest, 1.0) else tensor.float() * rest
    return scaled


def _named(tensors: Mapping[str, Tensor], architecture: Any, model_config: Any) -> dict[str, Tensor]:
    """The factors by llama.cpp's names, in its order of rows."""
    import gguf

    names = gguf.get_tensor_name_map(architecture, model_config.num_hidden_layers)
    named = {}
    for name, tensor in sorted(tensors.items()):
        path, _, kind = name.removeprefix(FILE_PREFIX).rpartition(".lora_")
        target = names.get_name(f"{path}.weight", try_suffixes=(".weight",))
        if kind not in ("A.weight", "B.weight") or target is None or not target.startswith("blk."):
            raise NotSupportedError(f"'{name}' has no place in a GGUF adapter")
        values = tensor.float().contiguous()
        if (
            kind == "B.weight"
            and model_config.model_type in TURNED
            and target.endswith(("attn_q.weight", "attn_k.weight"))
        ):
            query = target.endswith("attn_q.weight")
            values = turn_rows(values, model_config.num_attention_heads if query else model_config.num_key_value_heads)
        named[f"{target}.lora_{kind[0].lower()}"] = values
    return named


def turn_rows(weight: Tensor, heads: int) -> Tensor:
    """From the order of rows of transformers, halves of a head, to that of GGUF, pairs of neighbours."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns).contiguous()
