"""Tiny models of the families whose checkpoints hold a language model and what it looks at pictures with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

TEXT: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "vocab_size": 120, "pad_token_id": 0,
    "bos_token_id": 2, "eos_token_id": 3, "initializer_range": 0.2,
}  # fmt: skip
VISION: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
QWEN_VISION: dict[str, Any] = {
    "depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 32, "patch_size": 14,
}  # fmt: skip
QWEN_TOKENS = {
    "image_token_id": 110, "video_token_id": 111, "vision_start_token_id": 112, "vision_end_token_id": 113,
}  # fmt: skip
SECTIONS = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
LINEAR_ATTENTION = {
    "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2, "linear_num_value_heads": 2,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "rope_parameters": {**SECTIONS, "partial_rotary_factor": 1.0},
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


def _of(text: str | None, vision: str | None, **more: Any) -> dict[str, Any]:
    """A configuration of two parts, each of a type of its own or of that of the family."""
    parts = {
        "text_config": TEXT | ({"model_type": text} if text else {}),
        "vision_config": VISION | ({"model_type": vision} if vision else {}),
    }
    return {**parts, "image_token_id": 110, **more}


def _llama4() -> dict[str, Any]:
    made = _of(None, None)
    made["text_config"] |= {"intermediate_size_mlp": 48, "num_local_experts": 2, "moe_layers": [1]}
    made["vision_config"] |= {"vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16}
    return made


FAMILIES: dict[str, Callable[[], dict[str, Any]]] = {
    "gemma3": lambda: _of(None, None, mm_tokens_per_image=4),
    "gemma4": lambda: {
        "text_config": {
            **TEXT, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 120, "global_head_dim": 8,
            "num_kv_shared_layers": 0, "layer_types": ["sliding_attention", "full_attention"],
        },
        "vision_config": {**VISION, "num_key_value_heads": 2, "head_dim": 8, "position_embedding_size": 16},
        "image_token_id": 110,
    },
    "qwen2_vl": lambda: {
        "text_config": {**TEXT, "rope_parameters": SECTIONS},
        "vision_config": {"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2}, **QWEN_TOKENS,
    },
    "qwen2_5_vl": lambda: {
        "text_config": {**TEXT, "rope_parameters": SECTIONS},
        "vision_config": {**QWEN_VISION, "fullatt_block_indexes": [1]}, **QWEN_TOKENS,
    },
    "qwen3_vl": lambda: {
        "text_config": {**TEXT, "rope_parameters": SECTIONS},
        "vision_config": {**QWEN_VISION, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}, **QWEN_TOKENS,
    },
    "qwen3_5": lambda: {
        "text_config": {**TEXT, **LINEAR_ATTENTION},
        "vision_config": {**QWEN_VISION, "num_position_embeddings": 16}, **QWEN_TOKENS,
    },
    "qwen3_vl_moe": lambda: {
        "text_config": {**TEXT, **EXPERTS, "rope_parameters": SECTIONS},
        "vision_config": {**QWEN_VISION, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}, **QWEN_TOKENS,
    },
    "glm4v": lambda: {
        "text_config": {**TEXT, "rope_parameters": {**SECTIONS, "partial_rotary_factor": 1.0}},
        "vision_config": {**QWEN_VISION, "image_size": 28}, "image_token_id": 110, "video_token_id": 111,
    },
    "llava": lambda: _of("llama", "clip_vision_model"),
    "llava_next": lambda: _of("mistral", "clip_vision_model"),
    "llava_onevision": lambda: _of("qwen2", "siglip_vision_model"),
    "mistral3": lambda: _of("mistral", "pixtral"),
    "paligemma": lambda: _of("gemma", "siglip_vision_model", projection_dim=32),
    "idefics3": lambda: _of("llama", None, scale_factor=2),
    "smolvlm": lambda: _of("llama", None, scale_factor=2),
    "internvl": lambda: _of("qwen2", None),
    "llama4": _llama4,
    "mllama": lambda: {
        "text_config": {**TEXT, "num_hidden_layers": 3, "cross_attention_layers": [1]},
        "vision_config": {
            "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_global_layers": 1, "image_size": 28,
            "attention_heads": 2, "patch_size": 14, "vision_output_dim": 32, "intermediate_layers_indices": [0],
            "supported_aspect_ratios": [[1, 1]], "max_num_tiles": 1,
        },
        "image_token_index": 110,
    },
}  # fmt: skip


def write(family: str, folder: Path, tokenizer: Any, **sizes: int) -> Any:
    """Save a random model of a family as it is published, and return it; `sizes` are of its language part."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

    torch.manual_seed(0)
    settings = FAMILIES[family]()
    settings["text_config"] = settings["text_config"] | sizes
    model = AutoModelForImageTextToText.from_config(CONFIG_MAPPING[family](**settings)).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model
