"""Merging with the whole model in memory: for strategies that only know how to change a loaded model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from adapterhub_lite.base.model_files import calm
from adapterhub_lite.base.strategy import Mergeable
from adapterhub_lite.merging.shards import copy_side_files, headers_of, weight_files

if TYPE_CHECKING:
    from adapterhub_lite.adapter.adapter import Adapter


def write_whole(adapter: Adapter, out: Path, folder: Path | None) -> set[str]:
    """Let the strategy write into the weights of its loaded base, and save that model; the base is used up.

    Args:
        adapter: On an unquantized base that nothing else uses.
        out: An existing folder.
        folder: The base's files, for what `save_pretrained` does not write.

    Returns:
        The dtypes of the files that were written, by the names of the format.

    Raises:
        NotSupportedError: the strategy refuses this model.
    """
    attachment = adapter.attachment
    base, view, strategy = attachment.base, attachment.view, attachment.strategy
    assert isinstance(strategy, Mergeable)
    base.activate(view)
    with torch.no_grad():
        strategy.merge(view, attachment.config, dict(attachment.parameters))
    view.settle()
    base.active = None
    base.model.to(base.dtype)
    if folder is not None:
        copy_side_files(folder, out)
        (out / "model.safetensors.index.json").unlink(missing_ok=True)  # of other shards than those written below
    with calm():
        base.model.save_pretrained(out)
        if base.processor is not None:
            base.processor.save_pretrained(out)
    kinds = {info.dtype for header in headers_of(weight_files(out)).values() for info in header.values()}
    return {kind for kind in kinds if kind in ("F32", "F16", "BF16", "F64")}
