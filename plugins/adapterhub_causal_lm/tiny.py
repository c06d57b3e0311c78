"""Two tiny decoders and a problem that they can learn, for the conformance kit."""

from __future__ import annotations

from typing import Any

import adapterhub_causal_lm
from adapterhub_causal_lm.items import Completion
from adapterhub_causal_lm.options import TASK
from adapterhub_lite.api import Dataset, TinyModel, tiny_tokenizer

ROWS = 16
COUNT = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
# Widths are multiples of 64, the block of NF4.
HIDDEN, HEADS, LAYERS, INNER = 64, 4, 2, 64


def llama() -> tuple[Any, Any]:
    """A model like Llama, and its tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=2, max_position_embeddings=tokenizer.model_max_length,
        initializer_range=0.2, tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config), tokenizer


def gpt2() -> tuple[Any, Any]:
    """A model like GPT-2, and its tokenizer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = tiny_tokenizer()
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=tokenizer.model_max_length, n_embd=HIDDEN, n_inner=INNER, n_layer=LAYERS,
        n_head=HEADS, initializer_range=0.2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return GPT2LMHeadModel(config), tokenizer


def completions() -> Dataset:
    """Numbers counted up or down; what comes next is to be learnt."""
    inputs = []
    for row in range(ROWS):
        count = COUNT if row % 2 else COUNT[::-1]
        start = row // 2 % 4
        cut = start + 2 + row % 3
        inputs.append(Completion(" ".join(count[start:cut]), " ".join(count[cut : cut + 3])))
    return Dataset(TASK, inputs, None, (), {}, "<kit>", "", None, form="completion")


TINY = (
    TinyModel(
        "decoder", "Llama-like: grouped-query attention, rotary positions, tied head", llama, completions,
        adapterhub_causal_lm,
    ),
    TinyModel(
        "conv1d", "GPT-2-like: Conv1D weights, absolute positions", gpt2, completions, adapterhub_causal_lm
    ),
)  # fmt: skip
