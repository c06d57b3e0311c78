"""A tiny encoder, a model that most strategies have to refuse, and a problem for both, for the conformance kit."""

from __future__ import annotations

from typing import Any

import numpy as np

import adapterhub_text
from adapterhub_lite.api import Dataset, TinyModel, tiny_tokenizer
from adapterhub_text.options import CLASSIFICATION, REGRESSION

ROWS = 16
CLASSES = ("no", "yes")
WORDS = [
    "fine", "poor", "warm", "cold", "card", "bank", "bill", "money", "time", "day", "week", "year", "room", "door",
    "road", "tree", "bird", "fish", "is", "was", "the", "a", "of", "to", "and", "in", "my", "it",
]  # fmt: skip
# Widths are multiples of 64, the block of NF4.
HIDDEN, HEADS, LAYERS, INNER = 64, 4, 2, 64


def bert() -> tuple[Any, Any]:
    """A model like BERT, and its tokenizer."""
    from transformers import BertConfig, BertModel

    tokenizer = tiny_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, max_position_embeddings=tokenizer.model_max_length, initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False), tokenizer


def gates() -> tuple[Any, Any]:
    """A model without weight matrices, attention or biases, and its tokenizer."""
    from adapterhub_text.bare_model import BareConfig, BareModel

    tokenizer = tiny_tokenizer()
    config = BareConfig(vocab_size=len(tokenizer), hidden_size=HIDDEN, num_hidden_layers=LAYERS)
    return BareModel(config), tokenizer


def texts() -> Dataset:
    """Texts of two to nine words; the label says which of two words is among them."""
    random = np.random.default_rng(0)
    inputs = []
    for row in range(ROWS):
        words = list(random.choice(WORDS, size=1 + row % 8))
        words.insert(int(random.integers(0, len(words) + 1)), "good" if row % 2 else "bad")
        inputs.append(" ".join(words))
    targets = tuple(row % 2 for row in range(ROWS))
    return Dataset(CLASSIFICATION, inputs, targets, CLASSES, {}, "<kit>", "", None)


def values() -> Dataset:
    """The same texts; the number says which of the two words is among them, and how many there are."""
    data = texts()
    targets = tuple(
        float(kind) + 0.1 * len(text.split()) for text, kind in zip(data.inputs, data.targets or (), strict=True)
    )
    return Dataset(REGRESSION, data.inputs, targets, (), {}, "<kit>", "", None)


TINY = (
    TinyModel("encoder", "BERT-like, for text classification", bert, texts, adapterhub_text),
    TinyModel("values", "BERT-like, for text regression", bert, values, adapterhub_text, for_task=True),
    TinyModel("odd", "a text model without weight matrices and attention", gates, texts, adapterhub_text, bare=True),
)
