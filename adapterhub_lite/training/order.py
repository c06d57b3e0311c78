"""Which rows a step takes: a function of the seed and the number of the step, so that a position is one integer."""

from __future__ import annotations

import math

from adapterhub_lite.data.batches import epoch_batches
from adapterhub_lite.training.config import EPOCHS, TrainConfig


class Order:
    """The batches of a run over `count` examples."""

    def __init__(self, count: int, config: TrainConfig):
        self._count, self._config = count, config
        self._batch_size = config.examples_a_step
        self.per_epoch = math.ceil(count / self._batch_size)
        self.total = config.steps or max(1, round((config.epochs or EPOCHS) * self.per_epoch))
        self._epoch = -1
        self._batches: list[list[int]] = []

    def rows(self, step: int) -> list[int]:
        """The rows of one step, counted from 1."""
        epoch, place = divmod(step - 1, self.per_epoch)
        if epoch != self._epoch:
            self._batches = epoch_batches(self._count, self._batch_size, seed=self._config.seed, epoch=epoch)
            self._epoch = epoch
        return self._batches[place]
