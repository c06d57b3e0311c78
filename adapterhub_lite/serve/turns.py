"""Requests take turns on a base: one thread a base answers those that wait, batch by batch."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any, Protocol

from adapterhub_lite.serve.refusal import Refusal, refusal_of, stopping


class Job:
    """One request: what it asks, and where its answer goes.

    Args:
        kind: Requests of one kind can be answered in one batch; those of one adapter alone are.
        asked: What the adapter is asked.
        rows: How many rows or prompts that is.
        begin: Answers jobs of this kind, or begins to.
    """

    def __init__(self, kind: Hashable, asked: Any, rows: int, begin: Callable[[list[Job]], Answering | None]):
        self.kind, self.asked, self.rows, self.begin = kind, asked, rows, begin
        self.dropped = False
        """Whether nobody waits for it any more."""
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[Any] = asyncio.Queue()

    def tell(self, what: Any) -> None:
        """Hand something to the request, from any thread; an exception ends it."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._told.put_nowait, what)

    async def next(self) -> Any:
        """What is told next.

        Raises:
            Refusal: the request cannot be answered.
        """
        what = await self._told.get()
        if isinstance(what, BaseException):
            raise refusal_of(what)
        return what


class Answering(Protocol):
    """Jobs of one kind that are answered together."""

    jobs: list[Job]

    def advance(self) -> bool:
        """Do a small part of the work, on the base; gives whether there is more."""
        ...


class Turns(threading.Thread):
    """Answers the requests for the adapters of one base.

    The oldest request that waits begins the next batch, and others of its kind go with it. Batches that take long are
    answered a part at a time, each of them in turn; of a kind there is one at a time.

    Args:
        at_once: Rows a batch.
        most: How many jobs may wait.
    """

    def __init__(self, at_once: int, most: int):
        super().__init__(name="adapterhub-serve", daemon=True)
        self.at_once, self.most = at_once, most
        self.waiting: list[Job] = []
        self._running: list[Answering] = []
        self._changed = threading.Condition()
        self._stopping = False

    def submit(self, job: Job) -> None:
        """Let a job wait for its turn.

        Raises:
            Refusal: too many wait already, or the server stops.
        """
        with self._changed:
            if self._stopping:
                raise stopping()
            if len(self.waiting) >= self.most and (self.waiting or self._running):
                message = f"{len(self.waiting)} requests wait already; ask again later"
                raise Refusal(429, message, code="queue_full", headers={"retry-after": "1"})
            self.waiting.append(job)
            self._changed.notify()

    def drop(self, job: Job) -> None:
        """Forget a job that nobody waits for any more; what runs of it ends at its next turn."""
        job.dropped = True
        with self._changed, suppress(ValueError):
            self.waiting.remove(job)

    def stop(self, *, at_once: bool) -> None:
        """Take no new jobs, and end the thread when those that wait and run are done, or at its next turn."""
        with self._changed:
            self._stopping = True
            if at_once:
                for job in [*self.waiting, *(job for batch in self._running for job in batch.jobs)]:
                    job.dropped = True
                    job.tell(stopping())
                self.waiting.clear()
            self._changed.notify()

    def run(self) -> None:
        """Answer until the server stops."""
        while True:
            with self._changed:
                while not (self.waiting or self._running or self._stopping):
                    self._changed.wait()
                if not (self.waiting or self._running):
                    return
                jobs = self._next()
            try:
                begun = jobs[0].begin(jobs) if jobs else None
                self._running += [begun] if begun is not None else []
            except Exception as error:
                tell_all(jobs, error)
            self._running = [batch for batch in self._running if self._advance(batch)]

    def _next(self) -> list[Job]:
        """The oldest job of a kind that nothing runs of, and those that are answered with it; taken out of the waiting."""
        busy = {batch.jobs[0].kind for batch in self._running}
        chosen: list[Job] = []
        for job in [job for job in self.waiting if job.kind not in busy]:
            rows = sum(one.rows for one in chosen) + job.rows
            if not chosen or (job.kind == chosen[0].kind and rows <= self.at_once):
                chosen.append(job)
                self.waiting.remove(job)
        return chosen

    def _advance(self, batch: Answering) -> bool:
        try:
            return batch.advance()
        except Exception as error:
            tell_all(batch.jobs, error)
            return False


def tell_all(jobs: list[Job], error: Exception) -> None:
    """End jobs with an error."""
    for job in jobs:
        job.tell(error)
