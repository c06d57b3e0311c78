"""The fingerprint of a model that exists only in memory: tiny test models and those a plug-in loads."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from adapterhub_lite.storage.manifest import Fingerprint


def fingerprint_of_module(model: Any, layers: int) -> Fingerprint:
    """Identify a model by the names, shapes and bytes of its tensors (read once, in order)."""
    shape, content = hashlib.sha256(type(model).__name__.encode()), hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        shape.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        content.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    # Only a language model has one to ask for; others raise, as PatchTST does.
    asks = getattr(model, "main_input_name", None) == "input_ids" and hasattr(model, "get_input_embeddings")
    embedding = model.get_input_embeddings() if asks else None
    rows = getattr(getattr(embedding, "weight", None), "shape", (None,))[0]
    return Fingerprint(
        architecture=shape.hexdigest(), weights=content.hexdigest(), tokenizer=None, vocabulary=rows, layers=layers
    )
