"""How far a run has come, and its losses. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from adapterhub_lite.errors import TrainingError
from adapterhub_lite.training.config import TrainConfig


@dataclass
class State:
    """How far a run has come: with adapter, optimizer and random streams all it needs to go on."""

    micro_batch_size: int
    """What is computed at once; becomes smaller when memory runs out."""
    step: int = 0
    skipped: int = 0
    """Steps not applied because loss or gradient was not finite."""
    bad_in_a_row: int = 0
    evaluated: int = 0
    """The last step whose evaluation is done."""
    best_step: int | None = None
    """The step to keep."""
    best_value: float | None = None
    best_loss: float | None = None
    """That of the best step, which decides between steps of equal value."""
    evaluations_since_best: int = 0
    flat: bool | None = None
    """Whether texts are run without padding; None before it was tried."""
    stopped: str | None = None
    """Why the run ended early."""


@dataclass
class TrainReport:
    """What happened in a run."""

    state: State
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    """Mean loss of each step that was applied, per target."""
    evaluations: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """The scores on held-out data, and after which step; after step 0 those of the probe that the head starts from."""

    def facts(self, config: TrainConfig) -> dict[str, Any]:
        """What is saved with the adapter.

        Raises:
            TrainingError: no step was applied, so that nothing was learnt.
        """
        last = self.losses[-20:]
        if not last:
            raise TrainingError(
                "no step of the run could be applied: every loss or gradient was not finite; check the data, lower --lr, or try "
                "another base, whose weights may be damaged"
            )
        return {
            **config.model_dump(),
            "steps": self.state.step,
            "skipped_steps": self.state.skipped,
            "micro_batch_size_used": self.state.micro_batch_size,
            "best_step": self.state.best_step,
            "seconds": round(self.seconds, 1),
            "train_loss": sum(last) / len(last),
            "stopped": self.state.stopped,
        }
