"""Whether the texts of a batch may be run in one row without padding: a few are run both ways before it is relied on.

Features, and in training the gradients of all that trains, have to come out alike; else batches stay in padded rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from adapterhub_lite.base.attention import EXTENSIBLE
from adapterhub_lite.base.describe import backbone
from adapterhub_lite.base.flat import Flattening
from adapterhub_lite.base.learning import BatchContext
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.swaps import ImplementationSwap, attention_implementation
from adapterhub_lite.data.batches import ROW
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.names import one_line
from adapterhub_lite.plugins.strategy_call import is_out_of_memory
from adapterhub_lite.tasks.task import Batch, Example, Task
from adapterhub_lite.tasks.text import first_position
from adapterhub_lite.training.attachment import Attachment
from adapterhub_lite.training.out_of_memory import RanOut, attempt, free

TRIED_WITH = 8
"""Examples that are run both ways."""
FEWEST = 64
"""Examples from which on it pays to try it where nothing is learnt."""
TOLERANCE, TOLERANCE_IN_HALF = 1e-4, 0.1
"""How far features and gradients may be apart, as a share of their norm; in half precision rounding alone makes hundredths."""
UNSUITED = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, NotSupportedError)
"""What models that know nothing of such a row raise."""


@contextmanager
def flattened(
    base: Base,
    task: Task,
    examples: Sequence[Example],
    adapter: Attachment | None = None,
    *,
    learns: bool = False,
    known: bool | None = None,
    at_once: int = TRIED_WITH,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[bool]:
    """Let tasks run texts in one row for the length of a `with` block, where that changes nothing; give whether they may.

    Args:
        base: Runs them.
        task: Makes batches of them.
        examples: Some of what will be run; where nothing is learnt all of it, since it does not pay for few.
        adapter: What is on the base; None for the bare one.
        learns: Whether gradients have to come out alike as well.
        known: What came out before, if it is known.
        at_once: How many examples may be run at once, at most.
        say: Shows the user why batches are padded.

    Raises:
        NotSupportedError: they have to be padded, and the task that learns from them asks for the opposite.
    """
    trial, before = _Trial(base, task, adapter, learns), base.flat
    view = adapter.view if adapter is not None else None
    if before is not None and before.view is view:  # within such a block
        yield True
        return
    suits, swap = trial.suits(examples, view), ImplementationSwap(base.model)
    how = None if isinstance(suits, str) or known is False else suits
    reason = None if how is not None else suits if isinstance(suits, str) else "it was not when this run began"
    with base.lock:
        if how is not None:
            swap.mount()
    try:
        if how is not None and not known:
            reason = trial.why_not(how, examples, at_once)
            if reason is not None:
                say(f"note: batches are padded, since '{base.reference}' is not run without padding: {reason}")
        if reason is not None and task.needs_one_row and learns:
            raise NotSupportedError(
                f"'{base.reference}' is not run without padding: {reason}; use --task-set packing=false"
            )
        base.flat = how if reason is None else before
        yield reason is None
    finally:
        with base.lock:
            base.flat = before
            if how is not None:
                swap.unmount()


@dataclass
class _Trial:
    """As of `flattened`."""

    base: Base
    task: Task
    adapter: Attachment | None
    learns: bool

    def suits(self, examples: Sequence[Example], view: object) -> Flattening | str:
        """How texts would be put into one row; or why that is known not to go, or not to pay."""
        base, model = self.base, self.base.model
        if base.map.modality != "text" or base.map.sees_padding:
            return "it depends on more than the text"
        if not self.task.needs_one_row and (base.device.type != "cpu" or base.shards is not None):
            return "it is not known to pay here"
        if not self.learns and len(examples) < FEWEST:
            return "there are few texts"
        if attention_implementation(model) not in {*EXTENSIBLE, *EXTENSIBLE.values()}:
            return "it does not take a mask of texts"
        if "position_ids" not in inspect.signature(backbone(model).forward).parameters:
            return "it takes no positions"
        config = model.config.get_text_config()
        windows = [
            getattr(config, name, None) for name in ("sliding_window", "local_attention", "attention_chunk_size")
        ]
        return Flattening(first_position(base), min((size for size in windows if size), default=1 << 30), view)

    def why_not(self, how: Flattening, examples: Sequence[Example], at_once: int) -> str | None:
        """Why texts are not run in one row, in words; None where nothing is against it."""
        if self.base.shards is not None:
            return None  # its processes would have to try it equally often, whatever they have
        some = [examples[row] for row in range(0, len(examples), max(1, len(examples) // FEWEST))]
        shorter = sorted(some, key=lambda example: example.length)[: max(TRIED_WITH, len(some) // 2)]
        chosen = shorter[:: max(1, len(shorter) // TRIED_WITH)][: max(2, min(TRIED_WITH, at_once))]
        while len(chosen) > 2 and sum(example.length for example in chosen) > ROW:
            chosen = chosen[: len(chosen) // 2]
        while len(chosen) > 1:
            tried = attempt(partial(self._difference, how, chosen), self.base.device)
            if not isinstance(tried, RanOut):
                return tried
            chosen = chosen[: len(chosen) // 2]
            free(self.base.device)
        return "it takes two texts to try"

    def _difference(self, how: Flattening, examples: Sequence[Example]) -> str | None:
        base = self.base
        modes = [(module, module.training) for module in base.model.modules()]
        base.model.eval()
        try:
            batch = {key: value.to(base.device) for key, value in self.task.collate(examples, base).items()}
            base.flat = None
            alone = self._features_and_gradients(batch)
            base.flat = how
            together = self._features_and_gradients(batch)
            # In one row of the same lengths nothing is rounded otherwise, whatever the texts before are.
            ids, half = batch["input_ids"], len(examples) // 2
            beside = self._features_and_gradients({**batch, "input_ids": torch.cat([ids[:half].flip(1), ids[half:]])})
        except UNSUITED as error:
            if base.flat is not how or is_out_of_memory(error):
                raise
            return one_line(error)[:200]
        finally:
            base.flat = None
            for module, mode in modes:
                module.training = mode
        if not how.used:
            return "the task runs it in a way of its own"
        allowed = TOLERANCE if base.dtype == torch.float32 else TOLERANCE_IN_HALF
        for what, one, other in zip(("features", "gradients"), alone, together, strict=True):
            difference = float((one - other).norm() / one.norm().clamp(min=1e-30))
            if not difference <= allowed:
                return f"{what} differ by {difference:.1g}"
        rows = sum(example.rows for example in examples[half:])
        seen = (beside[0][-rows:] - together[0][-rows:]).norm() > TOLERANCE * together[0][-rows:].norm()
        return "texts see each other" if seen else None

    def _features_and_gradients(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features, and the gradient of their sum with random signs for all that trains in the base."""
        base, adapter, trained = self.base, self.adapter, list[nn.Parameter]()
        with base.lock, torch.set_grad_enabled(self.learns):
            base.activate(adapter.view if adapter is not None else None)
            if adapter is not None and self.learns:
                trained = [parameter for parameter in adapter.parameters.values() if parameter.requires_grad]
            told = adapter.running(BatchContext(batch)) if adapter is not None else nullcontext()
            with told, adapter.precision() if adapter is not None else nullcontext():
                features = self.task.features(base, batch)[0].float()
                signs = torch.randn(features.shape, generator=torch.Generator().manual_seed(0)).to(features.device)
                loss = (features * signs).sum()
                gradients = (
                    torch.autograd.grad(loss, trained, allow_unused=True) if trained and loss.requires_grad else ()
                )
        known = [gradient.flatten().float() for gradient in gradients if gradient is not None]
        return features.detach(), torch.cat(known) if known else features.new_zeros(1)
