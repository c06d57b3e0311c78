"""Several short examples in one row of tokens, none of which sees another.

Each example keeps the positions it has alone, and a mask of blocks keeps attention inside it, so that what a transformer
computes for it is what it computes for the example alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from adapterhub_lite.api import ATTENTION_IMPLEMENTATION, NotSupportedError

SEGMENTS = "segments"
"""In a batch: which example of its row each token belongs to, counted from 1; 0 for padding. (rows, tokens)"""
IMPLEMENTATIONS = ("sdpa", "eager", ATTENTION_IMPLEMENTATION)
UNPACKED = "use --task-set packing=false"


def check_packing(model: nn.Module, reference: str, longest: int | None) -> None:
    """Refuse a model of which it is known that packed examples would not be computed as they are alone.

    Raises:
        NotSupportedError: saying why.
    """
    config = model.config.get_text_config()  # type: ignore[operator, union-attr]
    window = getattr(config, "sliding_window", None)
    if window is not None and getattr(config, "use_sliding_window", True) and (longest is None or longest > window):
        raise NotSupportedError(
            f"'{reference}' attends to the last {window} tokens only, which packing does not keep for inputs of up to "
            f"{longest} tokens; {UNPACKED}, or --max-length {window}"
        )
    if config._attn_implementation not in IMPLEMENTATIONS:
        raise NotSupportedError(
            f"packing needs attention that takes a mask of blocks, and '{reference}' computes it with "
            f"{config._attn_implementation}; {UNPACKED}"
        )


def pack(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Put examples into rows of at most `room` tokens, in their order; a longer one has a row for itself."""
    rows: list[list[int]] = []
    left = 0
    for number, length in enumerate(lengths):
        if not rows or length > left:
            rows.append([])
            left = room
        rows[-1].append(number)
        left -= length
    return rows


def packed_batch(
    examples: Sequence[tuple[list[int], list[int]]], room: int, pad: int, ignored: int
) -> dict[str, Tensor]:
    """Pack token ids and their labels.

    Args:
        examples: Ids and labels, of the same length.
        room: Tokens in a row.
        pad: The id that fills up.
        ignored: The label that is not learnt; the first label of each example becomes one, because nothing of its
            example stands before it.

    Returns:
        input_ids, targets, position_ids and segments, each (rows, tokens) int64.
    """
    rows = pack([len(ids) for ids, _ in examples], room)
    width = max(sum(len(examples[number][0]) for number in row) for row in rows)
    batch = {name: torch.zeros((len(rows), width), dtype=torch.long) for name in ("position_ids", SEGMENTS)}
    batch |= {"input_ids": torch.full((len(rows), width), pad), "targets": torch.full((len(rows), width), ignored)}
    for i, row in enumerate(rows):
        start = 0
        for segment, number in enumerate(row, start=1):
            ids, labels = examples[number]
            place = slice(start, start + len(ids))
            batch["input_ids"][i, place] = torch.tensor(ids)
            batch["targets"][i, place] = torch.tensor([ignored, *labels[1:]])
            batch["position_ids"][i, place] = torch.arange(len(ids))
            batch[SEGMENTS][i, place] = segment
            start += len(ids)
    return batch


def unpacked(row: Mapping[str, Tensor], ignored: int) -> dict[str, Tensor]:
    """The examples of one packed row, each in a row of its own and padded on the right.

    Args:
        row: A batch of `packed_batch` with one row.
        ignored: The label that is not learnt.
    """
    segments = row[SEGMENTS][0]
    places = [segments == number for number in range(1, int(segments.max()) + 1)]
    shape = (len(places), max(int(place.sum()) for place in places))
    batch = {
        name: torch.zeros(shape, dtype=torch.long, device=segments.device) for name in ("input_ids", "attention_mask")
    }
    batch["targets"] = torch.full(shape, ignored, device=segments.device)
    for number, place in enumerate(places):
        length = int(place.sum())
        batch["attention_mask"][number, :length] = 1
        for name in ("input_ids", "targets"):
            batch[name][number, :length] = row[name][0, place]
    return batch


def block_mask(segments: Tensor, implementation: str, dtype: torch.dtype) -> Tensor:
    """Each token sees those before it of its own example; padding sees padding, so that no row of scores is empty.

    Args:
        segments: (rows, tokens)
        implementation: How the model computes attention: "eager" adds the mask to the scores, others take it as bool.
        dtype: Of the scores.

    Returns:
        (rows, 1, tokens, tokens), True or 0 where attended to.
    """
    same = segments[:, :, None] == segments[:, None, :]
    mask = (same & same.new_ones(same.shape[1:]).tril())[:, None]
    if implementation != "eager":
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
