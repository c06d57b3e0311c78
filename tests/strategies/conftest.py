"""Putting a strategy on a base without training it, and running the trainer on it, for comparison with a reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch

from adapterhub_lite.plugins.observers import Observers
from adapterhub_lite.progress import Silent
from adapterhub_lite.tasks.task import Encoded
from adapterhub_lite.training.attachment import Attachment, attach
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.loop import Training, TrainReport

if TYPE_CHECKING:
    from adapterhub_lite.base.loading import Base
    from adapterhub_lite.data.dataset import Dataset
    from adapterhub_lite.engine import Engine


@dataclass
class Mounted:
    """A strategy on a base, with the data it is to learn."""

    attachment: Attachment
    encoded: Encoded

    def fit(self, *, seed: int = 0, **options: Any) -> TrainReport:
        """Run the trainer, its random draws from `seed`."""
        torch.manual_seed(seed)
        config = TrainConfig(seed=seed, **options)
        return Training(self.attachment, self.encoded, config, Silent(), Observers(None)).run()

    def batch(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """The batch that training makes of these rows."""
        task, base = self.attachment.task, self.attachment.base
        return dict(task.collate([self.encoded.examples[row] for row in rows], base))

    def gradients(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """Gradients of the mean loss on these rows, by name."""
        with self.attachment.training():
            logits, targets = self.attachment.logits(self.batch(rows))
            assert targets is not None
            torch.nn.functional.cross_entropy(logits, targets).backward()
        gradients = {}
        for name, parameter in self.attachment.tensors.items():
            assert parameter.grad is not None, f"no gradient reaches {name}"
            gradients[name] = parameter.grad.clone()
            parameter.grad = None
        return gradients


@pytest.fixture
def put(engine: Engine) -> Iterator[Callable[..., Mounted]]:
    """Attach a strategy for the time of a test: `put(base, data, "lora", {"rank": 4})`."""
    made: list[Attachment] = []

    def put(base: Base, data: Dataset, strategy: str, settings: dict[str, Any] | None = None, seed: int = 0) -> Mounted:
        provided = engine.strategy_shelf.resolve(strategy)
        options = engine.strategy_shelf.configure(provided, settings or {})
        task = engine.task_for(base, data)
        torch.manual_seed(seed)
        attachment = attach(base, task, provided, engine.strategy_shelf.load(provided), options)
        made.append(attachment)
        return Mounted(attachment, task.encode(data, base))

    yield put
    for attachment in made:
        attachment.detach()


@pytest.fixture
def data_for(
    bank: Callable[[int, int], Dataset], sums: Callable[[int], Dataset], pictures: Dataset
) -> Callable[[str], Dataset]:
    """A few rows for a task."""
    known = {
        "text-classification": lambda: bank(3, 6),
        "causal-lm": lambda: sums(6),
        "image-classification": lambda: pictures,
    }
    return lambda task: known[task]()
