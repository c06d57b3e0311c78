"""Token ids and hidden states of texts: what the tasks that read text share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapterhub_lite.base.describe import backbone
from adapterhub_lite.base.flat import Texts
from adapterhub_lite.base.learning import BatchContext
from adapterhub_lite.base.loading import Base
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.tasks.task import Batch

LONGEST_TEXT = 512
"""Tokens a text is cut to where neither the user nor the base says less."""
SAMPLE_TEXTS = ("What is the capital of France?", "My new card has not arrived yet.", "1 + 1 = 2, and 2 + 2 =")


def check_characters(text: str, where: str) -> None:
    """Refuse a text with half a surrogate pair, which no tokenizer takes; files are checked where they are read.

    Raises:
        ConfigError: there is one in the text at the place `where`.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{where} holds half of a surrogate pair, which is no character; repair the text") from None


def longest_input(base: Base) -> int:
    """The most tokens a text base takes."""
    takes = reach(base)
    return int(min(takes, base.tokenizer.model_max_length or takes))


def reach(base: Base) -> int:
    """The most tokens that a text base was made for, as its configuration says; a large number where it sets no limit."""
    positions = getattr(base.model.config.get_text_config(), "max_position_embeddings", None) or -1
    if positions < 0:  # XLNet, whose positions are relative, has -1
        return 1 << 30
    return int(positions - first_position(base))


def first_position(base: Base) -> int:
    """The position id of the first token: RoBERTa and its like count from behind the id of the padding token, 512 of 514."""
    tables = [
        m for n, m in base.model.named_modules() if n.endswith("position_embeddings") and isinstance(m, nn.Embedding)
    ]
    return max((table.padding_idx + 1 for table in tables if table.padding_idx is not None), default=0)


def checked_length(base: Base, given: int | None, at_most: int) -> int:
    """The length inputs are cut to: as given, else what the base takes, no more than `at_most`.

    Raises:
        ConfigError: more than the base takes.
    """
    takes = longest_input(base)
    if given is not None and given > takes:
        raise ConfigError(f"--max-length {given} is not between 2 and {takes}, the most that '{base.reference}' takes")
    return given or min(takes, at_most)


def pad_tokens(rows: Sequence[Sequence[int]], pad: int | None) -> dict[str, Tensor]:
    """Pad token ids on the right: input_ids and attention_mask, (batch, tokens) int64."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad or 0)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def hidden_states(base: Base, batch: Batch) -> Tensor:
    """Last hidden states of a text base without its output layer: (batch, tokens, hidden_size)."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    given: dict[str, Any] = {name: batch[name] for name in names if name in batch}
    texts = in_one_row(base, batch)
    if texts is not None:
        given = texts.inputs(given)
    if base.map.causal:
        given["use_cache"] = False
    lengths = batch["attention_mask"].sum(dim=1)
    if texts is None and base.map.sees_padding and bool((lengths < lengths.max()).any()):
        return _by_length(base, given, lengths)
    hidden: Tensor = backbone(base.model)(**given).last_hidden_state
    return hidden if texts is None else texts.rows(hidden)


def in_one_row(base: Base, batch: Batch) -> Texts | None:
    """How the texts of a padded batch are put into one row, where the base may be run so; layers that ask are told of it."""
    how = base.flat
    if how is None or base.active not in (how.view, None):
        return None
    texts = Texts(batch["attention_mask"], how.first)
    if max(texts.lengths) > how.longest:
        return None
    how.used = True
    if base.active is not None and base.active.context is not None:
        row = texts.inputs({"input_ids": batch["input_ids"]})
        base.active.context = BatchContext({**batch, **row, "segments": texts.segments})
    return texts


def _by_length(base: Base, given: dict[str, Any], lengths: Tensor) -> Tensor:
    """Hidden states of texts that are padded on the right, those of one length run together and without padding."""
    width = int(lengths.max())
    rows: list[Tensor] = [lengths] * len(lengths)
    for length in lengths.unique().tolist():
        alike = (lengths == length).nonzero().flatten()
        part = {name: value[alike, :length] if isinstance(value, Tensor) else value for name, value in given.items()}
        for row, hidden in zip(alike.tolist(), backbone(base.model)(**part).last_hidden_state, strict=True):
            rows[row] = functional.pad(hidden, (0, 0, 0, width - length))
    return torch.stack(rows)
