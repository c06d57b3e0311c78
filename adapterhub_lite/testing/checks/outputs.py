"""Outputs that must agree: with and without a cache, however padded, merged or not."""

from __future__ import annotations

import torch
from torch import Tensor

from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.strategy import Mergeable
from adapterhub_lite.testing.bench import Bench, distance, disturb, hidden_states, outputs
from adapterhub_lite.testing.check import Check, CheckFailed, demand
from adapterhub_lite.testing.tokenizer import PAD

CACHE_TOLERANCE = PADDING_TOLERANCE = MERGE_TOLERANCE = 1e-4
"""Of the largest output; fp32."""
PROMPT, NEW = 4, 6
LENGTHS = (3, 5)
PADDING = (0, 1, 4)


def check_cached_generation(bench: Bench) -> None:
    """Text generated with a cache is text generated without one, logits compared token by token."""
    base = bench.base()
    disturb(bench.attach(base))
    ids = torch.arange(4, 4 + PROMPT)[None]
    fed, past = 0, None
    for step in range(NEW):
        mask = torch.ones_like(ids)
        with torch.no_grad():
            plain = base.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, -1]
            cached = base.model(input_ids=ids[:, fed:], attention_mask=mask, past_key_values=past, use_cache=True)
        difference = distance(cached.logits[:, -1], plain)
        demand(
            difference <= CACHE_TOLERANCE,
            f"token {step + 1}: logits with a cache differ from those without by {difference:.2g} of the largest",
        )
        fed, past = ids.shape[1], cached.past_key_values
        ids = torch.cat([ids, plain.argmax(dim=-1, keepdim=True)], dim=1)


def check_padding(bench: Bench) -> None:
    """Padding, on either side and however much, does not change the outputs of real tokens."""
    base = bench.base()
    disturb(bench.attach(base))
    rows = [torch.arange(4, 4 + length) for length in LENGTHS]
    alone = [
        hidden_states(base, {"input_ids": row[None], "attention_mask": torch.ones_like(row)[None]})[0] for row in rows
    ]
    for side in ("right", "left"):
        for amount in PADDING:
            for row, expected in enumerate(_padded(base, rows, side, amount)):
                difference = distance(expected, alone[row])
                demand(
                    difference <= PADDING_TOLERANCE,
                    f"with {amount} more tokens of padding on the {side}, outputs of real tokens differ by "
                    f"{difference:.2g} of the largest; use the attention mask",
                )


def check_merge(bench: Bench) -> None:
    """The base with the adapter merged into its weights gives the outputs of base and adapter."""
    base = bench.base()
    inputs = bench.inputs(base)
    attachment = bench.attach(base)
    if not isinstance(attachment.strategy, Mergeable):
        raise CheckFailed("traits say mergeable=True, but the strategy has no `merge`")
    disturb(attachment)
    adapted = outputs(base, inputs)
    base.activate(attachment.view)
    with torch.no_grad():
        attachment.strategy.merge(attachment.view, attachment.config, dict(attachment.parameters))
    attachment.view.settle()  # takes everything off but the weights, which the strategy has written
    base.active = None
    difference = distance(outputs(base, inputs), adapted)
    demand(difference <= MERGE_TOLERANCE, f"merging changes outputs by {difference:.2g} of the largest")


def _padded(base: Base, rows: list[Tensor], side: str, amount: int) -> list[Tensor]:
    """Hidden states of the real tokens of each row, (tokens, hidden_size), run as one padded batch."""
    width = max(len(row) for row in rows) + amount
    ids = torch.full((len(rows), width), PAD)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[i, place], mask[i, place] = row, 1
    # Positions are counted over real tokens, as `generate` does; else learnt positions would move with the padding.
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    hidden = hidden_states(base, {"input_ids": ids, "attention_mask": mask, "position_ids": positions})
    return [hidden[i][mask[i].bool()] for i in range(len(rows))]


def _generates(bench: Bench) -> str | None:
    """The model generates text."""
    model_map = bench.base().map
    return None if model_map.causal and model_map.output is not None else "this model does not generate text"


def _reads_text(bench: Bench) -> str | None:
    """The model reads text."""
    return None if bench.base().map.modality == "text" else "only texts are padded"


def _mergeable(bench: Bench) -> str | None:
    """`traits.mergeable`."""
    return None if bench.traits.mergeable else "traits.mergeable is False"


CHECKS = (
    Check(check_cached_generation, _generates),
    Check(check_padding, _reads_text),
    Check(check_merge, _mergeable),
)
