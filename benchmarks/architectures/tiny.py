"""A tiny random model of any architecture of transformers, in a folder with the tokenizer or image processor it needs.

Sizes are set by the name of the field of a configuration. What no rule fits stands in `EXCEPTIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)

from adapterhub_lite.testing.tokenizer import WORDS

VOCABULARY = 64
HIDDEN, HEADS, HEAD, INNER, LONGEST = 32, 4, 8, 48, 64
IMAGE = 32
MOST_WEIGHTS = 8_000_000
NOISE = 0.05
SEVERAL_PARTS = frozenset(
    {
        "dbrx",
        "mpt",
        "esm",
        "t5gemma",
        "blt",
        "clip",
        "siglip",
        "siglip2",
        "chinese_clip",
        "metaclip_2",
        "altclip",
        "align",
    }
)
"""Types whose configuration has parts, and which people give as bases of texts or images all the same."""

SIZES: Mapping[str, int] = {
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "embed_dim", "embedding_size", "dim", "emb_dim", "hidden_dim",
         "decoder_hidden_size", "out_hidden_size", "attention_hidden_size", "pooler_hidden_size", "pooler_output_size",
         "projection_dim", "embedding_dim", "word_embed_proj_dim", "text_hidden_size", "lru_width", "encoder_hidden_size",
         "mamba_d_ssm", "q_lora_rank", "d_embed", "model_dim", "qformer_hidden_size", "vision_hidden_size", "width"),
        HIDDEN,
    ),
    **dict.fromkeys(
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads",
         "decoder_num_attention_heads", "swa_num_attention_heads", "num_encoder_attention_heads", "num_ngram_heads",
         "num_decoder_attention_heads", "linear_num_value_heads", "index_n_heads", "linear_num_heads", "mamba_num_heads",
         "n_mamba_heads", "linear_num_key_heads"),
        HEADS,
    ),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads", "n_head_kv", "num_ln_in_parallel_attn",
                     "mamba_n_groups", "n_groups"), 2),
    **dict.fromkeys(
        ("head_dim", "d_kv", "v_head_dim", "swa_head_dim", "linear_key_head_dim", "linear_value_head_dim",
         "kv_channels", "attention_head_dim", "d_head", "dim_head", "linear_head_dim", "mamba_head_dim",
         "index_head_dim", "mamba_d_head", "swa_v_head_dim", "global_head_dim", "qk_nope_head_dim", "qk_rope_head_dim"),
        HEAD,
    ),
    **dict.fromkeys(
        ("intermediate_size", "ffn_dim", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim", "n_inner", "mlp_dim", "d_inner",
         "moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size", "dim_ff", "dff",
         "decoder_intermediate_size", "ffn_hidden_size", "intermediate_size_mlp", "attention_intermediate_size",
         "moe_shared_expert_intermediate_size", "block_ff_dim"),
        INNER,
    ),
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers", "depth",
         "num_decoder_layers", "num_encoder_layers", "decoder_num_hidden_layers"),
        2,
    ),
    **dict.fromkeys(
        ("vocab_size", "src_vocab_size", "tgt_vocab_size", "vocab_size_per_layer_input", "decoder_vocab_size",
         "ngram_vocab_size"),
        VOCABULARY,
    ),
    **dict.fromkeys(
        ("max_position_embeddings", "n_positions", "n_ctx", "max_source_positions", "model_max_length",
         "max_2d_position_embeddings", "max_target_positions", "max_seq_len", "max_sequence_length"),
        LONGEST,
    ),
    **dict.fromkeys(
        ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts", "n_experts", "num_routed_experts"), 4
    ),
    **dict.fromkeys(
        ("num_experts_per_tok", "moe_topk", "moe_k", "num_experts_per_token", "top_k_experts", "moe_router_topk"), 2
    ),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group", "n_shared_experts", "num_shared_experts"), 1),
    "first_k_dense_replace": 1, "qk_head_dim": 2 * HEAD, "kv_lora_rank": 16, "sliding_window": 16,
    "state_size": 8, "mamba_d_state": 8, "ssm_state_size": 8, "time_step_rank": 4, "mamba_dt_rank": 4,
    "laurel_rank": 4, "hidden_size_per_layer_input": 8,
    "rotary_dim": 4, "image_size": IMAGE, "pretrain_image_size": IMAGE, "chunk_size": 16, "mamba_chunk_size": 16,
    "index_topk": 16, "num_kv_shared_layers": 0, "type_vocab_size": 2, "num_nextn_predict_layers": 0,
}  # fmt: skip
"""What a whole number in a configuration is set to, by its name."""

LISTS: Mapping[str, tuple[int, ...]] = {
    "hidden_sizes": (16, 16, 32, 32), "depths": (1, 1, 1, 1), "embed_dims": (16, 16, 32, 32),
    "num_attention_heads": (1, 2, 2, 2), "num_heads": (1, 2, 2, 2), "encoder_hidden_sizes": (16, 16, 32, 32),
    "layers": (1, 1, 1, 1), "embed_dim": (16, 16, 32, 32), "num_stages": (1, 1, 1, 1),
    "key_dim": (8, 8, 8, 8),
}  # fmt: skip
"""What lists with an entry a stage are set to, by name; of a network of fewer stages the first entries."""

WHERE_NONE = frozenset(
    {
        "head_dim", "num_key_value_heads", "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size",
        "n_shared_experts",
    }
)  # fmt: skip
"""Fields that the rules fill in where a configuration leaves them empty."""

MAMBA: Mapping[str, Any] = {"mamba_n_heads": 8, "mamba_d_head": 8}
SWIN: Mapping[str, Any] = {"window_size": 4, "depths": [1, 1], "num_heads": [2, 4]}
AS_MANY_KEYS: Mapping[str, Any] = {"num_key_value_heads": HEADS}
SECTIONS: Mapping[str, Any] = {
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
}
LARGE: Mapping[str, Any] = {"image_size": 128}
EXCEPTIONS: Mapping[str, Mapping[str, Any]] = {
    "bamba": {**MAMBA, "attn_layer_indices": [1]},
    "bit": {"num_groups": 4},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}},
    "donut-swin": SWIN, "dots3_note_text": AS_MANY_KEYS,
    "efficientnet": {"width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 128},
    "esmc": AS_MANY_KEYS,
    "falcon_h1": {**MAMBA, "mamba_d_ssm": 64},
    "glm4v_moe_text": SECTIONS, "glm4v_text": SECTIONS, "glm_image_text": SECTIONS, "glm_ocr_text": SECTIONS,
    "glm5_next_text": {**AS_MANY_KEYS, "qk_rope_head_dim": 0},
    "granitemoehybrid": {**MAMBA, "layer_types": ["mamba", "attention"]},
    "hgnet_v2": {
        "stem_channels": [3, 8, 8], "stage_in_channels": [8, 16, 16, 32], "stage_mid_channels": [8, 8, 8, 8],
        "stage_out_channels": [16, 16, 32, 32], "stage_num_blocks": [1, 1, 1, 1], "stage_numb_of_layers": [2, 2, 2, 2],
    },
    "hunyuan_vl_text": SECTIONS,
    "jamba": {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1},
    "layoutlmv3": {"coordinate_size": 4, "shape_size": 8},
    "levit": LARGE, "mobilevit": LARGE, "mobilevitv2": LARGE, "pvt": LARGE, "pvt_v2": LARGE, "swiftformer": LARGE,
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "lilt": {"hidden_size": 48},
    "longcat_flash": {"expert_ffn_hidden_size": 32, "zero_expert_num": 2},
    "luke": {"entity_vocab_size": 8, "entity_emb_size": 32},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "maskformer-swin": SWIN,
    "mistral4": {
        "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "head_dim": 16, "qk_head_dim": 16, "v_head_dim": 16, **AS_MANY_KEYS,
    },
    "neomme": {"head_dim": 16},
    "opt": {"word_embed_proj_dim": 16},
    "qwen2_5_vl_text": SECTIONS, "qwen2_vl_text": SECTIONS,
    "qwen4_exp_text": {
        "indexer_budget": 16, "indexer_compress_ratio": 4, "hc_lowrank": 8, "ple_embed_dim": 32,
        "ngram_vocab_size_base": 64, "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8,
    },
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {"axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 8]},
    "roc_bert": {
        "shape_vocab_size": 8, "pronunciation_vocab_size": 8, "shape_embed_dim": 32, "pronunciation_embed_dim": 32,
    },
    "swin": SWIN,
    "swin2sr": {"embed_dim": 32, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
    "textnet": {"stem_out_channels": 16, "hidden_sizes": [16, 16, 16, 32, 32]},
    "xlstm": {"hidden_size": 64, "embedding_dim": 64},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "num_hidden_layers": 3, "layers_block_type": ["linear_attention", "hybrid", "hybrid"], "attention_hidden_size": 64,
        "attention_head_dim": 16, **AS_MANY_KEYS,
    },
    "zamba2": {"attention_head_dim": 16, "adapter_rank": 4, "n_mamba_heads": 8, "mamba_headdim": 8, **AS_MANY_KEYS},
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip
"""What the rules get wrong, by type."""

LARGER = {"glpn": 128, "segformer": 128, "efficientnet": 128}
"""Height and width of the images for networks that would leave a single point of smaller ones."""

SPECIAL = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}


def tiny_config(kind: str) -> Any:
    """A configuration of a type with a few thousand weights.

    Raises:
        Exception: whatever the configuration raises over sizes that it cannot have.
    """
    return _tiny(CONFIG_MAPPING[kind], kind)


def _tiny(config_class: Any, kind: str) -> Any:
    default = config_class()
    given: dict[str, Any] = {}
    values = default.to_dict()
    for name, value in values.items():
        if name in SPECIAL:
            given[name] = SPECIAL[name]
        elif name in SIZES and (
            (isinstance(value, int) and not isinstance(value, bool)) or (value is None and name in WHERE_NONE)
        ):
            given[name] = SIZES[name]
        elif name in LISTS and isinstance(value, (list, tuple)) and len(value) <= len(LISTS[name]):
            given[name] = list(LISTS[name][: len(value)])
        elif name == "image_size" and isinstance(value, (list, tuple)):
            given[name] = [IMAGE] * len(value)
        elif name.endswith("_token_id") and isinstance(value, int) and value >= VOCABULARY:
            given[name] = 4
        elif name in default.sub_configs:
            part = getattr(default, name)
            given[name] = _tiny(type(part), part.model_type).to_dict() if part is not None else None
    if values.get("kv_lora_rank"):
        given["num_key_value_heads"] = HEADS
    if "depths" not in values:
        given |= _cut_lists(values, given)
    given |= EXCEPTIONS.get(kind, {})
    rope = _rope(values, given)
    return config_class(**given, **({"rope_parameters": rope} if rope is not None else {}))


def _rope(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any] | None:
    """The rotary settings with sections that fit the size of a head, where there are sections."""
    rope = values.get("rope_parameters")
    if not isinstance(rope, dict) or "mrope_section" not in rope:
        return None
    half = int(given.get("head_dim", HEAD) * rope.get("partial_rotary_factor", 1.0)) // 2
    return {**rope, "mrope_section": [half - 2 * (half // 3), half // 3, half // 3]}


def _cut_lists(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Lists with an entry a layer, cut to the first layer of each kind: at least two layers, at most four."""
    names = [name for name in ("num_hidden_layers", "n_layer", "num_layers") if isinstance(values.get(name), int)]
    layers = values[names[0]] if names else 0
    lists = {
        name: value
        for name, value in values.items()
        if isinstance(value, (list, tuple)) and len(value) == layers and layers > 2
    }
    if not lists:
        return {}
    kinds: dict[str, int] = {}
    for number in range(layers):
        kinds.setdefault(repr([v[number] for v in lists.values() if isinstance(v[number], str)]), number)
    chosen = sorted(kinds.values())[:4]
    chosen = sorted(chosen + [number for number in range(layers) if number not in chosen][: max(0, 2 - len(chosen))])
    cut = {name: [_size(name, value[number]) for number in chosen] for name, value in lists.items()}
    return cut | dict.fromkeys(names, len(chosen))


def _size(name: str, value: Any) -> Any:
    return SIZES.get(name, value) if isinstance(value, int) and not isinstance(value, bool) else value


def kinds() -> list[str]:
    """Every type of the installed transformers whose model takes texts or images, by its own word, and has one part."""
    chosen = []
    for kind in sorted({*MODEL_MAPPING_NAMES, *MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}):
        try:
            takes = model_class_of(kind).main_input_name
            if takes in ("input_ids", "pixel_values") and (
                kind in SEVERAL_PARTS or not CONFIG_MAPPING[kind].sub_configs
            ):
                chosen.append(kind)
        except (ImportError, AttributeError, KeyError):
            continue  # needs a package that is not installed
    return chosen


def model_class_of(kind: str) -> Any:
    """The class that a base of a type is saved as: with a language-modelling head for decoders."""
    names = MODEL_MAPPING_NAMES.get(kind)
    if (
        kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
        and not _has_encoder(kind)
    ):
        names = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind]
    return getattr(transformers, names if isinstance(names, str) else names[0])


def _has_encoder(kind: str) -> bool:
    return kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES


def write_tiny(kind: str, folder: Path) -> None:
    """Write a tiny random model of a type, and its tokenizer or image processor."""
    torch.manual_seed(0)
    config = tiny_config(kind)
    model = model_class_of(kind)(config).eval()
    count = sum(parameter.numel() for parameter in model.parameters())
    if count > MOST_WEIGHTS:
        raise ValueError(f"the rules of benchmarks/architectures/tiny.py leave it {count:,} weights")
    with torch.no_grad():
        for parameter in model.parameters():  # what begins at zero would let no gradient through
            if parameter.is_floating_point():
                parameter.add_(torch.randn_like(parameter) * NOISE)
    model.float().save_pretrained(folder)
    if model.main_input_name == "input_ids":
        word_tokenizer(getattr(config, "pad_token_id", None) or 0).save_pretrained(folder)
    else:
        from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

        size = getattr(config, "image_size", None) or LARGER.get(kind, IMAGE)
        height, width = (size, size) if isinstance(size, int) else tuple(size)[:2]
        ViTImageProcessorPil(size={"height": height, "width": width}).save_pretrained(folder)


def word_tokenizer(pad: int) -> Any:
    """A tokenizer that makes a token of each word and knows 40 of them; `<s>` before a text, `</s>` behind it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>"]
    special.insert(pad, "<pad>")
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    marks = [(mark, vocabulary[mark]) for mark in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=marks
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        model_max_length=LONGEST // 2,
    )  # fmt: skip
