"""Requests answered together: rows in one go, texts some tokens at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.adapter.generate import Batch, Prompt, pads_well
from adapterhub_lite.adapter.sampling import Sampling
from adapterhub_lite.errors import AdapterHubError
from adapterhub_lite.serve.refusal import Refusal, bad
from adapterhub_lite.serve.turns import Job
from adapterhub_lite.tasks.text import reach
from adapterhub_lite.training.out_of_memory import RanOut, attempt

TOKENS_A_TURN = 8
"""How far answers go before others on the base have their turn, where nobody reads along."""


def predict_together(adapter: Adapter, jobs: Sequence[Job]) -> None:
    """Tell each job the predictions for its rows; it asks them as a dataset, those of all jobs being read alike."""
    jobs = [job for job in jobs if not job.dropped]
    if not jobs:
        return
    rows = jobs[0].asked
    if len(jobs) > 1:
        inputs = tuple(item for job in jobs for item in job.asked.inputs)
        rows = replace(rows, inputs=inputs, targets=None, table=None, groups=None, notes=())
    try:
        predictions, start = adapter.predict(rows), 0
    except AdapterHubError as error:
        if len(jobs) == 1:
            jobs[0].tell(error)
            return
        for job in jobs:  # so that each is told what is wrong with its own rows
            predict_together(adapter, [job])
        return
    for job in jobs:
        job.tell(predictions[start : start + job.rows])
        start += job.rows


@dataclass(frozen=True)
class Asked:
    """What a job asks of a language model."""

    prompt: Any
    """A text, or an item of a dataset of its task."""
    sampling: Sampling
    streams: bool
    """Whether the answer is read as it grows."""


@dataclass(frozen=True)
class Reply:
    """An answer so far."""

    text: str
    prompt_tokens: int
    tokens: int = 0
    done: bool = False
    cut: bool = False
    """Whether it ended because it was as long as it may be."""


@dataclass
class Writer:
    """An adapter that continues texts."""

    adapter: Adapter
    pads: bool | None = None
    """Whether prompts of several lengths can be answered together; found out when the first come."""

    def can_join(self, group: Sequence[Prompt], prompt: Prompt) -> bool:
        """Whether a prompt can be answered together with longer ones, within what the base reads."""
        if self.pads is None and len(group[0].ids) != len(prompt.ids):
            self.pads = pads_well(self.adapter.base, [group[0].ids, prompt.ids], self.adapter.attachment.ready)
        room = max(one.room for one in (*group, prompt))
        alike = self.pads or len(group[0].ids) == len(prompt.ids)
        return alike and len(group[0].ids) + room <= reach(self.adapter.base)


class Answers:
    """Answers to prompts of several requests, each of which is an `Asked`.

    Each job is told a `Reply` when its prompt is accepted, while the answer grows if it streams, and at the end.
    """

    def __init__(self, writer: Writer, jobs: Sequence[Job]):
        self.writer, self.jobs = writer, list(jobs)
        self._open: dict[Prompt, Job] = {}
        """Those that are not at their end."""
        with writer.adapter.base.lock:
            writer.adapter.use()  # it may have tokens of its own
            self._ends = writer.adapter.attachment.task.end_ids(writer.adapter.base)
            for job in jobs:
                try:
                    self._open[self._accepted(job)] = job
                except (AdapterHubError, Refusal) as error:
                    job.tell(error)
        self._groups: list[list[Prompt]] = []
        for prompt in sorted(self._open, key=lambda prompt: -len(prompt.ids)):
            group = next((group for group in self._groups if writer.can_join(group, prompt)), None)
            if group is None:
                self._groups.append([prompt])
            else:
                group.append(prompt)
        self._batch: Batch | None = None

    def advance(self) -> bool:
        """Go on by a few tokens; where memory runs out for several answers at once, each begins anew alone."""
        if self._batch is None:
            if not self._groups:
                return False
            self._batch = Batch(self.writer.adapter.base, self._groups.pop(0), self._ends)
        more = attempt(partial(self._turn, self._batch), self.writer.adapter.base.device)
        if isinstance(more, RanOut):
            left = [prompt for prompt in self._batch.prompts if prompt in self._open]
            if len(self._batch.prompts) == 1:
                error = Refusal(503, "memory ran out for this answer; ask for less", code="out_of_memory")
                self._open.pop(left.pop()).tell(error)
            self._groups[:0] = [[prompt] for prompt in left]
        if more is not True:
            self._batch = None
        return self._batch is not None or bool(self._groups)

    def _accepted(self, job: Job) -> Prompt:
        base = self.writer.adapter.base
        ids, reads = self.writer.adapter.attachment.task.prompt_ids(job.asked.prompt, base), reach(base)
        if len(ids) >= reads:
            what = f"messages have {len(ids)} tokens, and the model reads {reads} with the answer; shorten them"
            raise bad(what, "messages", "context_length_exceeded")
        job.tell(Reply("", len(ids)))
        return Prompt(ids, job.asked.sampling, min(job.asked.sampling.max_new_tokens, reads - len(ids)))

    def _turn(self, batch: Batch) -> bool:
        jobs = [self._open.get(prompt) for prompt in batch.prompts]
        for row, job in enumerate(jobs):
            batch.done[row] = job is None or job.dropped
        read_along = any(job is not None and job.asked.streams for job in jobs)
        with self.writer.adapter.attachment.ready(batch.inputs):
            more = batch.advance(1 if read_along else TOKENS_A_TURN)
        for row, (prompt, job) in enumerate(zip(batch.prompts, jobs, strict=True)):
            if job is not None and (batch.done[row] or job.asked.streams):
                size = batch.sizes[row]
                job.tell(Reply(batch.said(row), len(prompt.ids), size, batch.done[row], batch.cut[row]))
            if batch.done[row]:
                self._open.pop(prompt, None)
        return more
