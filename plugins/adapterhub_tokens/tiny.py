"""A tiny encoder with words to tag, on which the conformance kit checks the task."""

from __future__ import annotations

from typing import Any

import numpy as np

import adapterhub_tokens
from adapterhub_lite.api import Dataset, TinyModel, tiny_tokenizer
from adapterhub_tokens.options import TASK

ROWS = 16
THINGS, OTHERS = ("card", "bank", "bill", "door"), ("is", "was", "the", "of", "to", "my")
HIDDEN, HEADS, LAYERS = 64, 4, 2


def bert() -> tuple[Any, Any]:
    """A model like BERT, and its tokenizer."""
    from transformers import BertConfig, BertModel

    tokenizer = tiny_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=HIDDEN, intermediate_size=HIDDEN, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, max_position_embeddings=tokenizer.model_max_length, initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False), tokenizer


def things() -> Dataset:
    """Two to nine words; those that are things have a tag of their own."""
    random = np.random.default_rng(0)
    inputs = [tuple(random.choice([*THINGS, *OTHERS], size=2 + row % 8).tolist()) for row in range(ROWS)]
    targets = tuple(tuple(int(word in THINGS) for word in words) for words in inputs)
    return Dataset(TASK, inputs, targets, ("other", "thing"), {}, "<kit>", "", None)


TINY = TinyModel("tagger", "BERT-like, for tagging words", bert, things, adapterhub_tokens, for_task=True)
