"""Continuing text with whatever is mounted on a base."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from adapterhub_lite.base.loading import Base
from adapterhub_lite.errors import ConfigError, DataError
from adapterhub_lite.tasks.text import reach

COLDEST = 1e-4
"""Least temperature but 0; below, logits divided by it may be too large."""


def check_sampling(max_new_tokens: Any, temperature: Any, seed: Any) -> None:
    """Refuse options of `generate` that are no such numbers.

    Raises:
        ConfigError: naming the option.
    """
    if type(max_new_tokens) is not int or max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens is {max_new_tokens!r:.80}; give a whole number from 1 on")
    number = isinstance(temperature, (int, float)) and not isinstance(temperature, bool)
    if not number or not (temperature == 0 or COLDEST <= temperature < math.inf):
        raise ConfigError(
            f"temperature is {temperature!r:.80}; give 0 for the likeliest tokens, or {COLDEST} and above"
        )
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise ConfigError(f"seed is {seed!r:.80}; give a whole number from 0 on")


def generate_text(
    base: Base, ids: Sequence[int], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
) -> str:
    """Continue token ids with whatever is mounted on the base now, as far as the base reads, and return the new text.

    Raises:
        DataError: as many ids as the base reads, or more.
    """
    tokenizer, reads = base.tokenizer, reach(base)
    if len(ids) >= reads:
        raise DataError(
            f"the prompt has {len(ids)} tokens, and '{base.reference}' reads {reads} with the answer; shorten the prompt"
        )
    inputs = torch.tensor([list(ids)], device=base.device)
    options: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if temperature > 0:
        options = {"do_sample": True, "temperature": temperature}
    # Where nothing is drawn the stream of random numbers, which all threads share, is left alone.
    with torch.random.fork_rng(devices=[], enabled=temperature > 0):
        if temperature > 0:
            torch.manual_seed(seed)
        output = base.model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=min(max_new_tokens, reads - len(ids)),
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
            **options,
        )
    reply: str = tokenizer.decode(output[0, inputs.shape[1] :], skip_special_tokens=True)
    return reply.strip()
