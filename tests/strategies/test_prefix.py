"""Prefix tuning against what it stands for: text in front of the input, and attention written out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from adapterhub_lite.base.describe import example_inputs
from adapterhub_lite.base.recompute import activation_checkpointing
from adapterhub_lite.errors import NotSupportedError
from adapterhub_prefix import PrefixConfig
from adapterhub_prefix.strategy import Prefix

INSTRUCTION = "where is my card please"
TEXTS = ["how can i pay the bill with my new card", "the money was lost"]


def padded(rows: list[list[int]], side: str, pad: int = 0) -> dict[str, torch.Tensor]:
    """A batch with the positions that `generate` gives: counted from the first real token."""
    width = max(map(len, rows))
    ids, mask = [], []
    for row in rows:
        fill = [pad] * (width - len(row))
        ids.append(fill + row if side == "left" else row + fill)
        mask.append([0] * len(fill) + [1] * len(row) if side == "left" else [1] * len(row) + [0] * len(fill))
    attention = torch.tensor(mask)
    positions = (attention.cumsum(1) - 1).clamp(min=0)
    return {"input_ids": torch.tensor(ids), "attention_mask": attention, "position_ids": positions}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("model", ["smollm2", "tiny-llama"])
def test_a_prefix_of_text_is_that_text(base: Any, put: Any, data_for: Any, model: str, side: str) -> None:
    """Logits with the prefix are those of the bare model that reads the text's tokens first."""
    loaded = base(model)
    said = loaded.tokenizer(INSTRUCTION)["input_ids"]
    rows = [loaded.tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    with torch.no_grad():
        expected = [loaded.model(input_ids=torch.tensor([said + row])).logits[0, len(said) :] for row in rows]
    put(loaded, data_for("causal-lm"), "prefix", {"text": INSTRUCTION})
    batch = padded(rows, side)
    with torch.no_grad():
        logits = loaded.model(**batch).logits
        alone = loaded.model(input_ids=torch.tensor(rows[:1])).logits[0]
    for row, wanted in enumerate(expected):
        torch.testing.assert_close(logits[row][batch["attention_mask"][row] == 1], wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(alone, expected[0], rtol=1e-4, atol=1e-4)


def test_positions_of_gpt2_shifted_by_hand(base: Any, put: Any, data_for: Any) -> None:
    """Absolute positions are not moved by the strategy; moved by hand, the prefix is the text."""
    loaded = base("tiny-gpt2")
    said, row = (loaded.tokenizer(text)["input_ids"] for text in (INSTRUCTION, TEXTS[1]))
    with torch.no_grad():
        wanted = loaded.model(input_ids=torch.tensor([said + row])).logits[0, len(said) :]
    put(loaded, data_for("causal-lm"), "prefix", {"text": INSTRUCTION})
    positions = torch.arange(len(said), len(said) + len(row))[None]
    with torch.no_grad():
        logits = loaded.model(input_ids=torch.tensor([row]), position_ids=positions).logits[0]
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", ["smollm2-4", "tiny-llama", "tiny-gpt2"])
def test_cached_generation_is_uncached_generation(base: Any, put: Any, data_for: Any, model: str) -> None:
    """Token by token: with the cache, without it, by whole forward passes, alone and left-padded in a batch."""
    loaded = base(model)
    put(loaded, data_for("causal-lm"), "prefix", {"length": 5, "init_std": 1.0})
    rows = [loaded.tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    batch = padded(rows, "left", loaded.tokenizer.pad_token_id or 0)
    options = {
        "max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False, "pad_token_id": 0,
        "temperature": None, "top_p": None, "top_k": None,
    }  # fmt: skip
    del batch["position_ids"]
    cached, uncached = (
        loaded.model.generate(**batch, **options, use_cache=cache, return_dict_in_generate=True, output_logits=True)
        for cache in (True, False)
    )
    assert torch.equal(cached.sequences, uncached.sequences)
    torch.testing.assert_close(torch.stack(cached.logits), torch.stack(uncached.logits), rtol=1e-4, atol=1e-4)
    end = loaded.model.generation_config.eos_token_id
    for number, row in enumerate(rows):
        sequence = list(row)
        for _ in range(12):
            with torch.no_grad():
                logits = loaded.model(input_ids=torch.tensor([sequence]), use_cache=False).logits[0, -1]
            logits[end] = -torch.inf  # as min_new_tokens does
            sequence.append(int(logits.argmax()))
        assert sequence[len(row) :] == cached.sequences[number, -12:].tolist()


@pytest.mark.parametrize("model", ["smollm2-4", "minilm", "tiny-vit"])
def test_checkpointing_gives_the_same_gradients(base: Any, put: Any, data_for: Any, model: str) -> None:
    task = {"smollm2-4": "causal-lm", "minilm": "text-classification", "tiny-vit": "image-classification"}[model]
    loaded = base(model)
    mounted = put(loaded, data_for(task), "prefix", {"length": 5})
    torch.manual_seed(5)
    plain = mounted.gradients([0, 1, 2])
    torch.manual_seed(5)
    with activation_checkpointing(loaded.model, True):
        recomputed = mounted.gradients([0, 1, 2])
    for name, gradient in plain.items():
        assert float(gradient.abs().max()) > 0, name
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-6, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


PREFIX_BY_HAND: dict[str, Any] = {}


def attention_by_hand(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float, **_: Any
) -> tuple[torch.Tensor, None]:
    """Softmax attention, written out, with extra keys and values in front."""
    key_extra, value_extra = PREFIX_BY_HAND[module]
    key = torch.cat([key_extra.expand(len(key), -1, -1, -1), key], 2)
    value = torch.cat([value_extra.expand(len(value), -1, -1, -1), value], 2)
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key) * scaling
    if attention_mask is not None:
        scores[..., key_extra.shape[1] :] += attention_mask
    return torch.einsum("bhqk,bhkd->bqhd", scores.softmax(-1), value), None


@pytest.mark.parametrize("model", ["tiny-bert", "tiny-vit", "tiny-patchtst", "minilm"])
def test_it_is_attention_with_more_keys(base: Any, model: str) -> None:
    """Encoders, images and series: as attention written out by hand, with padding where there is some."""
    loaded = base(model)
    view = loaded.view("any")
    torch.manual_seed(1)
    prefix = Prefix().attach(view, PrefixConfig(length=3, init_std=1.0))
    if loaded.map.modality == "text":
        inputs = padded([[5, 6, 7, 8, 9, 10], [11, 12, 13]], "right")
        del inputs["position_ids"]
    else:
        inputs = {
            name: torch.randn_like(value) for name, value in example_inputs(loaded.model, loaded.map.example).items()
        }
    with torch.no_grad():
        hidden = loaded.model(**inputs).last_hidden_state
    view.unmount()
    for index, site in enumerate(view.attention):
        PREFIX_BY_HAND[view.module(site.path)] = (prefix[f"prefix.{index}.key"], prefix[f"prefix.{index}.value"])
    AttentionInterface.register("by_hand", attention_by_hand)
    AttentionMaskInterface.register("by_hand", eager_mask)
    before = loaded.model.config._attn_implementation
    loaded.model.set_attn_implementation("by_hand")
    try:
        with torch.no_grad():
            wanted = loaded.model(**inputs).last_hidden_state
            PREFIX_BY_HAND.update({module: (k[:, :0], v[:, :0]) for module, (k, v) in PREFIX_BY_HAND.items()})
            bare = loaded.model(**inputs).last_hidden_state
    finally:
        loaded.model.set_attn_implementation(before)
        PREFIX_BY_HAND.clear()
    torch.testing.assert_close(hidden, wanted, rtol=1e-4, atol=1e-5)
    assert float((bare - wanted).abs().max()) > 1e-2


def test_a_convolutional_network_has_no_attention(base: Any, put: Any, data_for: Any, bits: Any) -> None:
    loaded = base("mobilenet")
    before = bits(loaded.model)
    with pytest.raises(NotSupportedError, match=r"no attention.*convolutional network.*use lora"):
        put(loaded, data_for("image-classification"), "prefix")
    assert bits(loaded.model) == before
    with pytest.raises(NotSupportedError, match="needs a base with a tokenizer"):
        put(base("tiny-vit"), data_for("image-classification"), "prefix", {"text": "hello"})
