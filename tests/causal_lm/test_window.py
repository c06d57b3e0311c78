"""Texts longer than the window of a language model: counted, said, and left out where nothing is left to learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adapterhub_lite.errors import DataError
from tests.reading import load_data

ROWS = [
    {"prompt": "the card ", "completion": "is here"},  # <s> the card | is here </s>
    {"prompt": "the card ", "completion": "is not here please help"},  # 9 tokens, of which 8 stay
    {"prompt": "the card is not here please help with it ", "completion": "good"},  # 10 of the prompt alone
]


@pytest.mark.parametrize("packing", [False, True])
def test_what_is_cut_and_what_is_left_out(engine: Any, base: Any, packing: bool) -> None:
    loaded, data = base("tiny-llama"), load_data(ROWS, "causal-lm")
    task = engine.task_for(loaded, data, {"max_length": 8, "packing": packing, "template": "none"})
    encoded = task.encode(data, loaded)
    assert encoded.notes == (
        "2 of 3 rows are longer than 8 tokens and were cut",
        "1 of 3 rows have nothing to learn within 8 tokens and were left out",
    )
    assert encoded.rows == (0, 1)
    assert [(example.length, example.rows) for example in encoded.examples] == [(6, 3), (8, 5)]
    with torch.no_grad():
        _, targets = task.logits(loaded, None, task.collate(encoded.examples, loaded))
    words = loaded.tokenizer.convert_ids_to_tokens(targets.tolist())
    assert words == ["is", "here", "</s>", "is", "not", "here", "please", "help"]
    with pytest.raises(DataError, match="no row has anything left to learn within 2 tokens; raise --max-length"):
        engine.task_for(loaded, data, {"max_length": 2}).encode(data, loaded)
