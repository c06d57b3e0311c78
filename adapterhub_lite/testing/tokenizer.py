"""A tokenizer built in code that makes one token of each word."""

from __future__ import annotations

from typing import Any

WORDS = [
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "good", "bad", "fine",
    "poor", "warm", "cold", "card", "bank", "bill", "money", "time", "day", "week", "year", "room", "door",
    "road", "tree", "bird", "fish", "is", "was", "the", "a", "of", "to", "and", "in", "my", "it",
]  # fmt: skip
SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]
PAD, START, END = 0, 2, 3
MAX_LENGTH = 48


def tiny_tokenizer() -> Any:
    """A transformers tokenizer over `WORDS` that puts `<s>` before a text and knows `<pad>` and `</s>`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", START)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=MAX_LENGTH,
    )
