"""What layers are given for the texts of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adapterhub_lite.api import BatchContext, TrainingBatch

IGNORED = -100
"""The target of a token that no loss is taken of."""


def tokens_learnt_from(batch: TrainingBatch, paths: Sequence[str]) -> dict[str, Tensor]:
    """The inputs of layers, (tokens, in_features) by path: of the tokens whose own target counts, where tokens have one."""
    given, segments = batch.layer_inputs(paths), BatchContext(batch.inputs).segments
    targets = batch.inputs.get("targets")
    if segments is None or targets is None or targets.shape != segments.shape or targets.is_floating_point():
        return given
    counts = (targets != IGNORED)[segments >= 0]
    return {path: inputs[counts] if len(inputs) == len(counts) else inputs for path, inputs in given.items()}


def by_example(batch: TrainingBatch, inputs: Tensor) -> Sequence[Tensor]:
    """The inputs of a layer, (tokens, in_features), cut into those of each text, picture or series of the batch."""
    segments = BatchContext(batch.inputs).segments
    if segments is not None and len(inputs) == int((segments >= 0).sum()):
        row = torch.arange(len(segments), device=segments.device)[:, None] * (int(segments.max()) + 1)
        _, counts = torch.unique_consecutive((segments + row)[segments >= 0], return_counts=True)
        return inputs.split(counts.tolist())
    rows = len(next(iter(batch.inputs.values())))
    return inputs.split(len(inputs) // rows) if len(inputs) % rows == 0 else [inputs]
