"""What is mounted on a base: an adapter that takes its turn there, and is taken off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from adapterhub_lite.base.learning import BatchContext
from adapterhub_lite.base.loading import Base
from adapterhub_lite.training.attachment import Attachment


@dataclass(repr=False)
class Mounted:
    """A strategy on a base, of several that may be there. Threads that use one base wait for each other."""

    attachment: Attachment

    @property
    def base(self) -> Base:
        """The base it is on."""
        return self.attachment.base

    @property
    def active(self) -> bool:
        """Whether it is what is mounted on its base, and so what calls of `base.model` run through.

        Setting it mounts the adapter as `use` does, or takes it off. Whatever an adapter is asked, it mounts itself for it.
        """
        return self.base.active is self.attachment.view

    @active.setter
    def active(self, wanted: bool) -> None:
        with self.base.lock:
            if wanted or self.active:
                self.base.activate(self.attachment.view if wanted else None)

    def use(self) -> None:
        """Make this the adapter that is mounted on the base; the others on it are taken off, not lost."""
        self.base.activate(self.attachment.view)

    @contextmanager
    def disabled(self) -> Iterator[Base]:
        """Give the bare base for the length of a `with` block, for which other threads wait."""
        with self.base.lock:
            self.base.activate(None)
            before, self.base.kept_bare = self.base.kept_bare, True
            try:
                yield self.base
            finally:
                self.base.kept_bare = before
                self.use()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Mount the adapter, which stays mounted; but within a `with` block of `disabled` the base is bare again."""
        with self.base.lock:
            self.use()
            try:
                yield
            finally:
                if self.base.kept_bare:
                    self.base.activate(None)

    @contextmanager
    def ready(self, inputs: Mapping[str, Tensor]) -> Iterator[None]:
        """Mount the adapter to run prompts with it, which its layers may ask for."""
        with self.at_work(), self.attachment.running(BatchContext(inputs)):
            yield

    def detach(self) -> None:
        """Take the adapter off for good; the base is bit for bit what it was."""
        with self.base.lock:
            self.attachment.detach()
