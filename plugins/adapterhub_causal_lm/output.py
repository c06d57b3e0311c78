"""Running a language model up to its output layer, and what comes behind that a few positions at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_causal_lm.loss import leaves_of
from adapterhub_causal_lm.tokens import IGNORED
from adapterhub_lite.api import Base, Batch, ModelMap, in_one_row, is_out_of_memory

_log = logging.getLogger("adapterhub_lite")

PROVEN_ON = 2
"""Positions whose logits are compared."""
TOLERANCE = 1e-5
"""Largest difference between logits, as a share of the largest of them; in half precision four steps of its numbers."""


@dataclass(frozen=True)
class Positions:
    """The supervised positions of a batch, as they come to the output layer."""

    hidden: Tensor
    """(n, hidden)"""
    targets: Tensor
    """(n,): each token is predicted from the one before."""
    logits: Tensor
    """(k, vocabulary): what the model makes of the first k of them, in its own dtype."""
    logits_of: Callable[[Tensor], Tensor]
    """From (m, hidden) to (m, vocabulary) of the same model; for models that `Pieces` has proven it of."""


def run(base: Base, batch: Batch, first: int | None) -> Positions:
    """Run the model with only the supervised positions passing through the output layer, and of these the `first` alone.

    They are gathered by a hook in front of that layer and not by calling the parts one by one, so that whatever a
    model does to its logits afterwards (scaling, soft-capping) is done.
    """
    wanted = batch["targets"][:, 1:]  # (batch, tokens - 1)
    keep = wanted != IGNORED
    places = nn.functional.pad(keep, (0, 1)).flatten().nonzero().flatten()  # in the rows, one behind the other
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    texts = in_one_row(base, batch)
    if texts is not None:
        inputs, places = texts.inputs({"input_ids": inputs["input_ids"]}), texts.places(places)
    seen: list[Tensor] = []
    given: list[Any] = []

    def gather(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        seen.append(args[0].flatten(0, 1)[places])  # (n, hidden)
        return (seen[0][None, :first], *args[1:])

    def note(path: str, _: nn.Module, __: Any, output: Any) -> None:
        given.append((path, _first_token(output, inputs["input_ids"].shape)))

    handles = [base.model.get_output_embeddings().register_forward_pre_hook(gather)]
    for path in bodies_of(base.map):
        handles.append(base.model.get_submodule(path).register_forward_hook(partial(note, path)))
    try:
        output = base.model(**inputs, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()

    def logits_of(rows: Tensor) -> Tensor:
        path, features = given[-1]  # of the parts that were called, the largest ends last
        return _behind(base.model, path, features, inputs["input_ids"][:, :1], rows)

    return Positions(seen[0], wanted[keep], output.logits.squeeze(0), logits_of)


class Pieces:
    """Whether a model's logits may be computed a few positions at a time, tried once for each adapter on it."""

    def __init__(self) -> None:
        self._tried: tuple[Any, bool] = (None, False)

    def proven(self, base: Base, batch: Batch) -> bool:
        """Whether what is behind the layers gives the same logits by itself as in the whole model, seen on a batch."""
        # The processes of a sharded base put its output layer together, all of them and equally often.
        if base.shards is not None:
            return False
        mounted = base.active if base.active is not None else base.model
        if self._tried[0] is not mounted and bool((batch["targets"][:, 1:] != IGNORED).any()):
            same = self._same(batch, base)  # all of it, which is what layers that ask are told of
            if not same:
                _log.warning(
                    "'%s' cannot be run behind its layers a few positions at a time, so the logits of all positions are "
                    "computed at once, which takes more memory",
                    base.reference,
                )
            self._tried = mounted, same
        return self._tried == (mounted, True)

    def _same(self, batch: Batch, base: Base) -> bool:
        modes = [(module, module.training) for module in base.model.modules()]
        base.model.eval()
        try:
            with torch.no_grad():
                ran = run(base, batch, PROVEN_ON)
                alone = torch.cat([ran.logits_of(ran.hidden[i, None]) for i in range(len(ran.logits))])
            with torch.enable_grad():
                first = ran.hidden[:1].detach().requires_grad_()
                learning = leaves_of(ran.logits_of(first))
            if any(parameter._backward_hooks for parameter in learning):
                return False  # they would be called for each piece, and for all of them together
        except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
            if is_out_of_memory(error):
                raise  # what is tried with fewer examples is tried again
            return False
        finally:
            for module, mode in modes:
                module.training = mode
        allowed = max(TOLERANCE, 4 * torch.finfo(alone.dtype).eps)
        return alone.shape == ran.logits.shape and bool(
            (alone - ran.logits).abs().max() <= allowed * ran.logits.abs().max()
        )


def bodies_of(model_map: ModelMap) -> list[str]:
    """The parts of a model that have all its layers and not its output layer, the largest first."""
    output = (model_map.output or "").split(".")
    shared = _shared([path.split(".")[:-1] for path in model_map.layers])
    apart = len(_shared([shared, output])) + 1
    return [".".join(shared[:end]) for end in range(apart, len(shared) + 1)] if apart <= len(output) else []


def _shared(paths: list[list[str]]) -> list[str]:
    """The names that all paths begin with."""
    return [names[0] for names in takewhile(lambda names: len({*names}) == 1, zip(*paths, strict=False))]


def _first_token(output: Any, shape: torch.Size) -> Any:
    """What the body of a model gave, with the first token alone, and without its graph."""

    def cut(value: Any) -> Any:
        # A copy, so that the features of all tokens are not kept for it.
        return value[:, :1].detach().clone() if isinstance(value, Tensor) and value.shape[:2] == shape else value

    if isinstance(output, Mapping):  # transformers' ModelOutput
        return type(output)(**{name: cut(value) for name, value in output.items()})
    return tuple(map(cut, output)) if isinstance(output, tuple) else cut(output)


def _behind(model: Any, body: str, given: Any, ids: Tensor, rows: Tensor) -> Tensor:
    """Run a model with its body left out, and `rows` in the place of whatever comes to its output layer."""

    def take(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (rows[None], *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(take)
    try:
        with _giving(model.get_submodule(body), given):
            # Not by a call of the model: hooks on it are told of a batch once.
            logits: Tensor = model.forward(input_ids=ids, use_cache=False).logits
    finally:
        handle.remove()
    return logits.squeeze(0)  # not [0], whose gradient is another tensor of this size


@contextmanager
def _giving(module: nn.Module, output: Any) -> Iterator[None]:
    """Let a module give an output without computing it for the length of a `with` block."""
    own = module.__dict__.get("forward")
    module.forward = lambda *_, **__: output
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own
