"""Requests take turns on a base: one thread a base answers those that wait, batch by batch."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
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
        begin: Makes a `Batch` of jobs of this kind.
    """

    def __init__(self, kind: Hashable, asked: Any, rows: int, begin: Callable[[list[Job]], Answering]):
        self.kind, self.asked, self.rows, self.begin = kind, asked, rows, begin
        self.dropped = False
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Any] = asyncio.Queue()

    def tell(self, event: Any) -> None:
        """Hand something to the request, from any thread; an exception ends it."""
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def next(self) -> Any:
        """What is told next.

        Raises:
            Refusal: the request cannot be answered.
        """
        event = await self._events.get()
        if isinstance(event, BaseException):
            raise refusal_of(event)
        return event


class Answering(Protocol):
    """Jobs that are answered together."""

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
        self._waiting: deque[Job] = deque()
        self._running: list[Answering] = []
        self._changed = threading.Condition()
        self._stopping = False

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def submit(self, job: Job) -> None:
        """Let a job wait for its turn.

        Raises:
            Refusal: too many wait already, or the server stops.
        """
        with self._changed:
            if self._stopping:
                raise stopping()
            idle = not self._waiting and not self._running
            if len(self._waiting) >= self.most and not idle:
                raise Refusal(
                    429, f"{self.most} requests wait already; ask again later", code="queue_full", retry_after="1"
                )
            self._waiting.append(job)
            self._changed.notify()

    def drop(self, job: Job) -> None:
        """Forget a job that nobody waits for any more; what runs of it ends at its next turn."""
        job.dropped = True
        with self._changed, suppress(ValueError):
            self._waiting.remove(job)

    def stop(self) -> None:
        """Take no new jobs; the thread ends when those that wait and run are done."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def give_up(self) -> None:
        """End what waits and what runs at once."""
        with self._changed:
            self._stopping = True
            for job in [*self._waiting, *(job for batch in self._running for job in batch.jobs)]:
                job.dropped = True
                job.tell(stopping())
            self._waiting.clear()
            self._changed.notify()

    def run(self) -> None:
        """Answer until the server stops."""
        while True:
            with self._changed:
                while not self._waiting and not self._running and not self._stopping:
                    self._changed.wait()
                if not self._waiting and not self._running:
                    return
                jobs = self._next()
            if jobs:
                self._begin(jobs)
            self._running = [batch for batch in self._running if self._advance(batch)]

    def _next(self) -> list[Job]:
        """The oldest job of a kind that nothing runs of, and those that are answered with it."""
        busy = {batch.jobs[0].kind for batch in self._running}
        first = next((job for job in self._waiting if job.kind not in busy), None)
        if first is None:
            return []
        chosen, rows = [first], first.rows
        for job in self._waiting:
            if job is not first and job.kind == first.kind and rows + job.rows <= self.at_once:
                chosen.append(job)
                rows += job.rows
        for job in chosen:
            self._waiting.remove(job)
        return chosen

    def _begin(self, jobs: list[Job]) -> None:
        try:
            self._running.append(jobs[0].begin(jobs))
        except Exception as error:
            tell_all(jobs, error)

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
