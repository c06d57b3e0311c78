"""What observers see of a training run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class Run:
    """What an observer hook may see of a training run. Observers look; they do not change."""

    strategy: str
    task: str
    base: str
    total_steps: int
    config: Mapping[str, Any]
    stop: Callable[[str], None]
    """Ask the engine to end after this step, with a reason; the adapter is saved as it is then."""
