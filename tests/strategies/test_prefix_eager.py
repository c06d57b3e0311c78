"""A prefix where no kernel computes attention: scores that are capped (Gemma 2), and sinks (GPT-OSS)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, DynamicCache

from adapterhub_lite.base.loading import Base, adopt

SIZES = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8,
    "num_key_value_heads": 2, "vocab_size": 64, "initializer_range": 0.5, "sliding_window": 64, "pad_token_id": 0,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "gemma2": {"attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 8},
    "gpt_oss": {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}


@pytest.fixture(params=MODELS)
def capped(request: pytest.FixtureRequest, base: Any) -> Base:
    torch.manual_seed(0)
    config = CONFIG_MAPPING[request.param](**SIZES, **MODELS[request.param])
    model = AutoModelForCausalLM.from_config(config).eval()
    assert config._attn_implementation == "eager"
    return adopt(model, base("tiny-llama").tokenizer)


@pytest.fixture
def prefixed(capped: Base, put: Any, data_for: Any) -> Any:
    return put(capped, data_for("causal-lm"), "prefix", {"length": 5, "init_std": 1.0}).attachment


def test_it_is_attention_to_what_was_read_before(capped: Base, prefixed: Any) -> None:
    """The model itself, eager, on from a cache that holds the prefix, with the input's positions from 0 on."""
    ids = torch.tensor([[5, 9, 17, 33, 8, 21, 40], [3, 4, 6, 60, 11, 2, 50]])
    pads = torch.tensor([[1] * 7, [0, 0] + [1] * 5])
    positions = (pads.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        ours = capped.model(input_ids=ids, attention_mask=pads, position_ids=positions, use_cache=False).logits
        capped.activate(None)
        bare = capped.model(input_ids=ids, attention_mask=pads, position_ids=positions, use_cache=False).logits
        cache = DynamicCache(config=capped.model.config)
        for layer in range(2):
            key, value = (
                prefixed.parameters[f"prefix.{layer}.{half}"][None].expand(2, -1, -1, -1) for half in ("key", "value")
            )
            cache.update(key, value, layer)
        mask = torch.cat([torch.ones(2, 5, dtype=torch.long), pads], dim=1)
        theirs = capped.model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache).logits
    seen = pads.bool()
    assert float((ours - bare)[seen].abs().max()) > 0.1
    assert torch.allclose(ours[seen], theirs[seen], atol=1e-5, rtol=1e-5)


def test_cached_generation_is_uncached_and_the_base_is_left_as_it_was(capped: Base, prefixed: Any) -> None:
    ids = torch.tensor([[5, 9, 17, 33]])
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": 63}
    capped.activate(prefixed.view)
    written = [
        capped.model.generate(ids, attention_mask=torch.ones_like(ids), use_cache=use, **settings)
        for use in (True, False)
    ]
    assert torch.equal(*written)
    capped.activate(None)
    assert capped.model.config._attn_implementation == "eager"


def test_gradients_reach_every_key_and_value(prefixed: Any) -> None:
    ids = torch.tensor([[5, 9, 17, 33, 8]])
    prefixed.base.activate(prefixed.view)
    logits = prefixed.base.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    logits.square().mean().backward()
    for name, parameter in prefixed.parameters.items():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()), name
        parameter.grad = None
