"""Small adapters on small bases, and what is done with them again and again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch import Tensor

    from adapterhub_lite.base.loading import Base
    from adapterhub_lite.data.dataset import Dataset
    from adapterhub_lite.engine import Engine
    from tests.conftest import LoadBase


@pytest.fixture(scope="session")
def rows_for(request: pytest.FixtureRequest) -> Callable[[str], Dataset]:
    """A few rows for a task, of words that every tiny model knows."""
    from tests.reading import load_data

    texts = ("my card is not here", "where is the money", "how can i pay the bill", "the rate is good", "a bad old app")

    def rows(task: str) -> Dataset:
        if task == "image-classification":
            return request.getfixturevalue("pictures")
        if task == "causal-lm":
            return load_data([{"text": text} for text in texts], task)
        return load_data([{"text": text, "label": str(i % 3)} for i, text in enumerate(texts)], task)

    return rows


@pytest.fixture(scope="session")
def adapt(
    engine: Engine,
    load: LoadBase,
    references: Callable[[str], str],
    rows_for: Callable[[str], Dataset],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Path]:
    """Train an adapter that clearly changes its base, and save it; the same one again where it was made before."""
    made: dict[str, Path] = {}

    def adapt(
        name: str, task: str, strategy: str = "lora", *, quantization: str = "none", seed: int = 0, **settings: Any
    ) -> Path:
        from adapterhub_lite.training.config import TrainConfig

        key = repr((name, task, strategy, quantization, seed, sorted(settings.items())))
        if key not in made:
            reference = name if Path(name).is_absolute() else references(name)
            base = load(reference, quantization)
            large = name in ("mobilenet", "smollm2")
            config = TrainConfig(
                epochs=1 if large else 3,
                batch_size=2,
                learning_rate=2e-3 if large or strategy == "full" else 2e-2,
                seed=seed,
            )
            adapter = engine.train(base, rows_for(task), strategy=strategy, settings=settings, config=config)
            made[key] = tmp_path_factory.mktemp("adapters") / "adapter"
            adapter.save(made[key])
            adapter.detach()
        return made[key]

    return adapt


@pytest.fixture(scope="session")
def logits_of(engine: Engine) -> Callable[..., Tensor]:
    """All logits an adapter gives for its own probe inputs, as one tensor."""

    def logits(path: Path, base: Base | str | None = None) -> Tensor:
        import torch

        from adapterhub_lite.adapter.probe import probe_items, probe_logits

        adapter = engine.load_adapter(path, base=base, dtype="float32", device="cpu")
        attachment = adapter.attachment
        items = probe_items(attachment.task, adapter.probe_inputs)
        batches = probe_logits(attachment.task, adapter.base, items, attachment.logits)
        adapter.detach()
        return torch.cat(batches)

    return logits
