"""What a report is made from: an adapter in memory, the rows it learnt from where they are at hand, and what may be spent."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.roles.groups import numbered
from adapterhub_lite.evaluation.result import Evaluation
from adapterhub_lite.reporting.curves import logged
from adapterhub_lite.tasks.task import Task

LEAST_SECONDS, SHARE_OF_RUN = 0.5, 0.03
"""What running models for a report may take: so long, or of a longer run this share."""
UNHURRIED = 120.0
"""Seconds for running models where someone asks for a report; no run spends more on its own."""


@dataclass
class Known:
    """What is known of a run; `left_out` says what a report lacks, and why."""

    adapter: Adapter
    learnt_from: Dataset | None
    given: Dataset | None
    """Rows that were held out; what was said of them is in `scored`."""
    scored: Evaluation | None
    examples: bool = True
    seconds: float = LEAST_SECONDS
    """For running models."""
    of_run: bool = True
    """Whether this is the process of the run, with its versions and its memory."""
    scored_anew: bool = False
    """Whether it was scored on other rows than in training, so that scores from then are not beside these."""
    left_out: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    @classmethod
    def of(
        cls,
        adapter: Adapter,
        data: Dataset | None,
        held_out: Dataset | None,
        *,
        examples: bool,
        seconds: float | None = None,
    ) -> Known:
        """What is known of an adapter; without `seconds` no more is spent than a small share of what the run took."""
        spent = adapter.training.get("seconds")
        share = SHARE_OF_RUN * spent if isinstance(spent, int | float) else 0.0
        allowed = min(UNHURRIED, max(LEAST_SECONDS, share))
        return cls(adapter, data, held_out, adapter.scored, examples, allowed if seconds is None else seconds)

    @property
    def task(self) -> Task:
        """What the adapter does."""
        return self.adapter.attachment.task

    @property
    def held_out(self) -> Dataset | None:
        """The rows it was scored on, where they are at hand."""
        return self.scored.rows.data if self.scored is not None and self.scored.rows is not None else self.given

    @property
    def seconds_left(self) -> float:
        """For running models."""
        return self.seconds - (time.monotonic() - self.begun)

    @property
    def groups(self) -> tuple[int, ...] | None:
        """The group of each held-out row, such as a patient."""
        data = self.held_out
        return None if data is None or data.groups is None else tuple(numbered(data.groups))

    @cached_property
    def log(self) -> list[dict[str, Any]]:
        """The lines of the run's log; none where nothing was logged."""
        folder = self.adapter.run_folder
        return [] if folder is None else logged(folder)

    @property
    def may_run(self) -> bool:
        """Whether models may be run; a base that is spread over processes runs in all of them alone."""
        if self.adapter.base.shards is not None:
            self.left_out.append("nothing was run for this report, because the base is spread over several processes")
            return False
        return True

    @cached_property
    def kind(self) -> str:
        """What is predicted of a row: "class", "labels", "value", "tokens", or of a language model "text"."""
        if self.task.generates:
            return "text"
        kind = {"labels": "labels", "values": "value"}.get(self.task.target_kind, "class")
        rows = (
            self.scored.rows.outputs.data.examples if self.scored is not None and self.scored.rows is not None else ()
        )
        data = self.held_out if self.held_out is not None else self.learnt_from
        nested = data is not None and data.targets and isinstance(data.targets[0], list | tuple)
        return "tokens" if kind == "class" and (nested or any(example.rows != 1 for example in rows)) else kind


def right_of(known: Known) -> list[float] | None:
    """How right each held-out row is: 1 or 0 for classes and labels, the absolute error of a value; None for the rest."""
    if known.scored is None or known.scored.rows is None or known.kind in ("text", "tokens"):
        return None
    data, said = known.scored.rows.data, known.scored.rows.outputs
    wanted: Any = data.targets or ()
    if known.kind == "value":
        return [
            abs(prediction.value - float(target)) for prediction, target in zip(said.predictions(), wanted, strict=True)
        ]
    if known.kind == "class":
        best = said.logits.argmax(dim=1).tolist()
        return [float(one == target) for one, target in zip(best, wanted, strict=True)]
    names = (*data.labels, *data.unknown)
    return [
        float(set(prediction.labels) == {names[label] for label in target})
        for prediction, target in zip(said.predictions(), wanted, strict=True)
    ]
