"""What training made a base forget, seen on a text that has nothing to do with what it was trained on.

Fine-tuning overwrites what a model could do before (catastrophic forgetting, McCloskey and Cohen 1989; of language models
Luo et al. 2023, arXiv:2308.08747). Here the adapted model is compared with its bare base, token by token: how well each
predicts the text, and how often the likeliest next token is still the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from adapterhub_causal_lm.tokens import encode_prompt
from adapterhub_lite.api import Base, Batch, DataError, Example, Task

GENERAL = Path(__file__).with_name("general.txt")
"""A few paragraphs of plain English, written for this."""
MOST_TOKENS = 4096
"""Of a longer text the beginning is read."""
AT_ONCE = 256
"""Tokens of a paragraph that are run at once."""


def paragraphs(text: str, base: Base, limit: int) -> list[list[int]]:
    """The token ids of each paragraph of a text, in pieces of at most `limit` and at least two, all of them known to the base."""
    pieces: list[list[int]] = []
    for paragraph in text.split("\n\n"):
        if paragraph.strip():
            ids = encode_prompt(paragraph.strip(), base.tokenizer)
            pieces += [ids[start : start + limit] for start in range(0, len(ids), limit)]
        if sum(map(len, pieces)) >= MOST_TOKENS:
            break
    return [piece for piece in pieces if len(piece) > 1 and base.beyond.keys().isdisjoint(piece)]


def forgetting(
    task: Task,
    base: Base,
    adapted: Callable[[Batch], tuple[Tensor, Tensor | None]],
    bare: Callable[[Batch], Tensor],
    pieces: Sequence[list[int]],
) -> dict[str, float]:
    """Compare an adapted model with its base on pieces of a text.

    Args:
        task: Makes batches, and knows the loss.
        base: Where they are sent.
        adapted: From a batch to (n, vocabulary) logits of the adapted model and (n,) targets.
        bare: The same logits of the bare base.
        pieces: Token ids.

    Returns:
        The number of tokens predicted, the mean loss of the base and of the adapted model in nats a token, and the share of
        tokens at which both find the same next token likeliest.
    """
    if not pieces:
        raise DataError("the general text has no two tokens in a row; give another file, or --general-text off")
    tokens, losses, same = 0, torch.zeros(2, dtype=torch.float64), 0
    with torch.no_grad():
        for ids in pieces:
            example = Example(ids, list(ids), len(ids), len(ids) - 1, rows=len(ids) - 1)
            batch = {name: value.to(base.device) for name, value in task.collate([example], base).items()}
            after, targets = adapted(batch)
            before = bare(batch)
            assert targets is not None
            for number, logits in enumerate((before, after)):
                losses[number] += task.losses(logits, targets).double().sum().cpu()
            same += int((before.argmax(dim=-1) == after.argmax(dim=-1)).sum())
            tokens += len(targets)
    loss_before, loss_after = (losses / tokens).tolist()
    return {"tokens": tokens, "loss_before": loss_before, "loss_after": loss_after, "agreement": same / tokens}
