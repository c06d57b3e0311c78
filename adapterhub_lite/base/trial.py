"""A base that was just loaded is run on next to nothing: files that do not fit together are told then, not in training."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from adapterhub_lite.base.arguments import features_or_logits
from adapterhub_lite.base.batch_norm import batch_norms
from adapterhub_lite.base.repeats import first_random, same
from adapterhub_lite.base.vocabulary import rows_of_embedding
from adapterhub_lite.errors import NotSupportedError

TEXT = "The quick brown fox."


def run_once(model: Any, processor: Any, hidden_size: int) -> bool:
    """Run a model of texts or images on a short text or a grey image, and let it write a token if it can.

    Models of anything else are left alone.

    Returns:
        Whether what it makes of a text depends on the padding behind it.

    Raises:
        ValueError: the processor makes what the model does not take, or the model gives numbers that are not finite.
        NotSupportedError: it has no features of `hidden_size`, takes one image at a time, needs a second text, gives
            something else each time, or changes itself.
        Exception: whatever the model or the processor raises.
    """
    kind = getattr(model, "main_input_name", None)
    if kind == "input_ids":
        ids = processor(TEXT, return_tensors="pt")["input_ids"]  # (1, tokens)
        rows = rows_of_embedding(model)
        if not ids.numel() or (rows is not None and int(ids.max()) >= rows):
            raise ValueError(f"the tokenizer makes {ids.tolist()} of a text, and the model knows {rows} tokens")
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    elif kind == "pixel_values":
        from PIL import Image

        inputs = {kind: processor(images=Image.new("RGB", (48, 40), (99, 99, 99)), return_tensors="pt")[kind]}
    else:
        return False
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not bool(torch.isfinite(parameter.sum(dtype=torch.float32))):
            raise ValueError(f"the values of '{name}' are not finite")
    # What is computed from the configuration may be infinite, as masks are; attention on a CPU passes over the other.
    for name, buffer in model.named_buffers():
        if bool(torch.isnan(buffer).any()):
            raise ValueError(f"'{name}', which config.json leads to, is not a number")
    state = {name: (tensor, tensor._version) for name, tensor in model.state_dict(keep_vars=True).items()}
    device, dtype = model.device, model.dtype
    placed = {name: value.to(device, dtype if value.is_floating_point() else None) for name, value in inputs.items()}
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        outputs = features_or_logits(model, placed, hidden_size)
        if model.can_generate() and not model.config.is_encoder_decoder:
            model.generate(**placed, max_new_tokens=1)
        if dtype != torch.float16 and not bool(torch.isfinite(outputs).all()):
            raise ValueError("it gives numbers that are not finite")
        beside = _beside_longer(placed, processor) if kind == "input_ids" else {kind: placed[kind].repeat(2, 1, 1, 1)}
        together = model(**beside)[0]
        if not batch_norms(model):  # whose statistics are seen to in training
            model.train()
            with suppress(Exception):  # what cannot be trained says so then
                model(**placed)
            model.eval()
        after = model.state_dict(keep_vars=True)
        changed = next(
            (name for name, old in state.items() if after[name] is not old[0] or after[name]._version != old[1]), None
        )
        if changed is not None:
            raise NotSupportedError(
                f"{type(model).__name__} changes its own '{changed}' when it is run, so that no adapter would find it as "
                "it was; use another base"
            )
        if len(together) != 2:
            raise NotSupportedError(
                f"{type(model).__name__} takes one image at a time, and makes one of a batch of them"
            )
        if same(outputs, together[:1, : outputs.shape[1]]):
            return False
        if not same(outputs, model(**placed)[0]):
            raise NotSupportedError(
                f"{type(model).__name__} gives something else each time that it is run on the same, first in "
                f"'{first_random(model, placed)}'; what is learnt on such features cannot be relied on, so it is refused"
            )
    return kind == "input_ids"


def _beside_longer(placed: dict[str, Tensor], processor: Any) -> dict[str, Tensor]:
    """A batch of a text, padded on the right, and a text twice as long."""
    ids, mask = placed["input_ids"], placed["attention_mask"]
    padding = torch.full_like(ids, processor.pad_token_id or 0)
    rows = torch.cat([torch.cat([ids, padding], dim=1), torch.cat([ids, ids], dim=1)])
    seen = torch.cat([torch.cat([mask, 0 * mask], dim=1), torch.cat([mask, mask], dim=1)])
    return {"input_ids": rows, "attention_mask": seen}
