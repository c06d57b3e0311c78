"""What checks of observers work with: a run that they see, and one that they do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from torch import Tensor

from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.spec import hookimpl
from adapterhub_lite.progress import Silent
from adapterhub_lite.testing.bound import BoundCheck, bind
from adapterhub_lite.testing.checks import observer_checks
from adapterhub_lite.testing.models import choose_models
from adapterhub_lite.testing.task_bench import SHIFT
from adapterhub_lite.testing.tiny_model import TinyModel
from adapterhub_lite.training.config import TrainConfig


@dataclass(frozen=True)
class ObserverBench:
    """The observer hooks of a plug-in, and a tiny model for runs that they see."""

    module: ModuleType
    model: TinyModel
    refusal = None

    def plugins(self, *, observed: bool = True) -> Plugins:
        """The kit's strategy, the task of the model and, where asked, the observer, and no other plug-in."""
        kit = ModuleType("plugin_of_the_kit")
        kit.adapterhub_strategies = hookimpl(lambda: [SHIFT])  # type: ignore[attr-defined]
        plugins = Plugins(enabled=False)
        for module in {id(m): m for m in (kit, self.model.plugin, self.module if observed else None) if m}.values():
            plugins.register(module)
        return plugins

    def run(self, folder: Path, *, observed: bool) -> dict[str, Tensor]:
        """Train, score, save and detach, and return the tensors."""
        data, base = self.model.problem(), self.model.base()
        config = TrainConfig(steps=4, batch_size=8, eval_every=2, checkpoint_every=2)
        engine = Engine(self.plugins(observed=observed), Silent())
        adapter = engine.train(
            base, data, strategy=SHIFT.name, eval_data=data, config=config, run_folder=folder / "run"
        )
        adapter.save(folder / "adapter")
        tensors = {name: tensor.detach().clone() for name, tensor in adapter.attachment.tensors.items()}
        adapter.detach()
        return tensors


def bound_observer_checks(
    module: ModuleType,
    models: Sequence[str | TinyModel] | None = None,
    *,
    expected_failures: Mapping[str, str] | None = None,
    checks: Sequence[str] | None = None,
) -> Iterator[BoundCheck]:
    """Generate the checks of a plug-in that observes, bound to its module and to the first of the models.

    Raises:
        ConfigError: a check, model or expected failure that does not exist.
    """
    chosen = choose_models(models)
    if not chosen:
        raise ConfigError("there is no model to check on")
    bench = ObserverBench(module, chosen[0])
    return bind(
        [(check, bench, None) for check in observer_checks()], expected_failures=expected_failures, checks=checks
    )
