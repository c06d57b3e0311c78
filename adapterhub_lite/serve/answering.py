"""Jobs answered together: predictions in one go, texts some tokens at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.adapter.generate import Batch, Prompt, pads_well
from adapterhub_lite.adapter.sampling import Sampling
from adapterhub_lite.base.learning import BatchContext
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import AdapterHubError
from adapterhub_lite.serve.refusal import Refusal, bad
from adapterhub_lite.serve.turns import Job, tell_all
from adapterhub_lite.tasks.text import reach
from adapterhub_lite.training.out_of_memory import RanOut, attempt

TOKENS_A_TURN = 8
"""How far a batch of answers goes before others on the base have their turn, where nobody reads along."""


class Predicting:
    """Rows of several requests, predicted together. Of a job is asked the dataset of its rows."""

    def __init__(self, adapter: Adapter, jobs: list[Job]):
        self.adapter, self.jobs = adapter, jobs

    def advance(self) -> bool:
        """Predict all, and tell each job the predictions of its rows."""
        jobs = [job for job in self.jobs if not job.dropped]
        try:
            self._predict(jobs)
        except AdapterHubError as error:
            if len(jobs) < 2:
                tell_all(jobs, error)
                return False
            for job in jobs:  # so that each is told what is wrong with its own rows alone
                Predicting(self.adapter, [job]).advance()
        return False

    def _predict(self, jobs: Sequence[Job]) -> None:
        if not jobs:
            return
        predictions, start = self.adapter.predict(_together([job.asked for job in jobs])), 0
        for job in jobs:
            job.tell(predictions[start : start + len(job.asked)])
            start += len(job.asked)


def _together(datasets: Sequence[Dataset]) -> Dataset:
    """The rows of datasets that were read alike."""
    if len(datasets) == 1:
        return datasets[0]
    inputs = tuple(item for dataset in datasets for item in dataset.inputs)
    return replace(datasets[0], inputs=inputs, targets=None, table=None, groups=None, notes=())


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
    done: bool = False
    cut: bool = False
    """Whether it ended because it was as long as it may be."""
    prompt_tokens: int = 0
    tokens: int = 0


@dataclass
class Writer:
    """An adapter that continues texts."""

    adapter: Adapter
    padded: bool | None = None
    """Whether prompts of different lengths can be answered together; found out when the first such prompts come."""


@dataclass
class Answer:
    """One that is being written."""

    job: Job
    prompt: Prompt
    said: str = ""
    told: bool = False
    """Whether the job knows that it is at its end."""


class Generating:
    """Prompts of several requests, answered together; of a job is asked an `Asked`.

    Each job is told a `Reply` when its prompt is accepted, while the answer grows if it streams, and at the end.
    """

    def __init__(self, writer: Writer, jobs: list[Job]):
        self.writer, self.adapter = writer, writer.adapter
        base, task = self.adapter.base, self.adapter.attachment.task
        answers: list[Answer] = []
        with base.lock:
            self.adapter.use()  # it may have tokens of its own
            self._ends = task.end_ids(base)
            for job in jobs:
                try:
                    answers.append(self._accepted(job))
                except (AdapterHubError, Refusal) as error:
                    job.tell(error)
            self.jobs = [answer.job for answer in answers]
            self._left = self._groups(answers)
        self._now: list[Answer] = []
        self._batch: Batch | None = None

    def advance(self) -> bool:
        """Go on with the answers by a few tokens; where memory runs out for several at once, begin anew with half of them."""
        if self._batch is None:
            if not self._left:
                return False
            self._now = self._left.pop(0)
            self._batch = Batch(self.adapter.base, [answer.prompt for answer in self._now], self._ends)
        for row, answer in enumerate(self._now):
            self._batch.done[row] = self._batch.done[row] or answer.job.dropped
        more = attempt(partial(self._turn, self._batch), self.adapter.base.device)
        if isinstance(more, RanOut):
            self._halve()
        if more is not True:
            self._batch = None
        return self._batch is not None or bool(self._left)

    def _accepted(self, job: Job) -> Answer:
        base, asked = self.adapter.base, job.asked
        ids, reads = self.adapter.attachment.task.prompt_ids(asked.prompt, base), reach(base)
        if len(ids) >= reads:
            raise bad(
                f"messages have {len(ids)} tokens, and the model reads {reads} with the answer; shorten them",
                "messages", "context_length_exceeded",
            )  # fmt: skip
        job.tell(Reply("", prompt_tokens=len(ids)))
        return Answer(job, Prompt(ids, asked.sampling, min(asked.sampling.max_new_tokens, reads - len(ids))))

    def _groups(self, answers: Sequence[Answer]) -> list[list[Answer]]:
        """Those that can be written together: of one length where the model does not take padding, within what it reads."""
        base, groups = self.adapter.base, list[list[Answer]]()
        prompts = [answer.prompt.ids for answer in answers]
        if self.writer.padded is None and len({len(ids) for ids in prompts}) > 1:
            self.writer.padded = pads_well(base, prompts, self._ready)
        for answer in sorted(answers, key=lambda answer: -len(answer.prompt.ids)):
            for group in groups:
                longest = len(group[0].prompt.ids)
                room = max(one.prompt.room for one in (*group, answer))
                if (longest == len(answer.prompt.ids) or self.writer.padded) and longest + room <= reach(base):
                    group.append(answer)
                    break
            else:
                groups.append([answer])
        return groups

    @contextmanager
    def _ready(self, inputs: Mapping[str, Tensor]) -> Iterator[None]:
        with self.adapter.base.lock:
            self.adapter.use()
            with self.adapter.attachment.running(BatchContext(inputs)):
                yield

    def _turn(self, batch: Batch) -> bool:
        reading = any(answer.job.asked.streams and not answer.told for answer in self._now)
        with self._ready(batch.inputs):
            more = batch.advance(1 if reading else TOKENS_A_TURN)
        for row, answer in enumerate(self._now):
            if answer.told or not (batch.done[row] or answer.job.asked.streams):
                continue
            text = batch.said(row)
            if batch.done[row] or text != answer.said:
                reply = Reply(text, batch.done[row], batch.cut[row], len(answer.prompt.ids), batch.sizes[row])
                answer.job.tell(reply)
            answer.said, answer.told = text, batch.done[row]
        return more

    def _halve(self) -> None:
        open_ones = [answer for answer in self._now if not answer.told]
        if len(open_ones) == 1 == len(self._now):
            open_ones[0].job.tell(Refusal(503, "memory ran out for this answer; ask for less", code="out_of_memory"))
            return
        half = (len(open_ones) + 1) // 2
        self._left[:0] = [part for part in (open_ones[:half], open_ones[half:]) if part]
