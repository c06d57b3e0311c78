"""The adapters that are served, by name, and the bases they share."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import did_you_mean
from adapterhub_lite.serve.answering import Asked, Generating, Predicting, Writer
from adapterhub_lite.serve.refusal import Refusal, bad
from adapterhub_lite.serve.settings import Settings
from adapterhub_lite.serve.turns import Job, Turns


class Model:
    """One adapter that is served.

    Args:
        name: What requests call it.
        adapter: Loaded; what happens to its folder no longer matters.
        turns: Of its base.
    """

    def __init__(self, name: str, adapter: Adapter, turns: Turns):
        self.name, self.adapter, self.turns = name, adapter, turns
        self.task = adapter.attachment.task
        self.loaded = int(time.time())
        self._writer = Writer(adapter)

    def described(self) -> dict[str, Any]:
        """As `/v1/models` lists it."""
        own = {"task": self.task.name, "base": self.adapter.base.reference}
        return {"id": self.name, "object": "model", "created": self.loaded, "owned_by": "adapterhub-lite", **own}

    def require(self, *, generates: bool) -> None:
        """Refuse what is asked at the other place.

        Raises:
            Refusal: the adapter does not do it.
        """
        if self.task.generates != generates:
            where = "POST /v1/chat/completions" if self.task.generates else "POST /predict"
            raise bad(f"'{self.name}' is an adapter for {self.task.name}; ask it at {where}", "model")

    def predicting(self, dataset: Any) -> Job:
        """A job for the rows of a dataset, which is answered together with rows that were read alike."""
        kind = ("predict", self.name, dataset.form, *sorted(dataset.columns.items()))
        return Job(kind, dataset, len(dataset), partial(Predicting, self.adapter))

    def answering(self, asked: Asked) -> Job:
        """A job for a prompt."""
        return Job(("answer", self.name), asked, 1, partial(Generating, self._writer))


class Models:
    """All adapters that are served, with a thread for each of their bases."""

    def __init__(self, adapters: dict[str, Adapter], settings: Settings):
        turns = {id(adapter.base): Turns(settings.at_once, settings.queue) for adapter in adapters.values()}
        self._models = {name: Model(name, adapter, turns[id(adapter.base)]) for name, adapter in adapters.items()}
        self.turns = list(turns.values())

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def named(self, name: str | None) -> Model:
        """The adapter of a name; without a name, the only one.

        Raises:
            Refusal: there is none, or which one is not said.
        """
        names = list(self._models)
        if name is None and len(names) == 1:
            name = names[0]
        if name is None:
            raise bad(f'say which adapter is asked: "model" is one of {", ".join(names)}', "model")
        if name not in self._models:
            hint = did_you_mean(name, names)
            raise Refusal(
                404, f"there is no model {name[:80]!r}{hint}; GET /v1/models lists them", "model", "model_not_found"
            )
        return self._models[name]


def named_places(places: Sequence[str]) -> dict[str, str]:
    """The folder of each adapter by its name: as in NAME=DIR, else that of the folder.

    Raises:
        ConfigError: two of one name.
    """
    by_name: dict[str, str] = {}
    for place in places:
        name, equals, path = place.partition("=")
        if not equals or Path(place).exists():
            name, path = Path(place).resolve().name.removesuffix(".zip"), place
        if not name or not path:
            raise ConfigError(f"{place}: write it as NAME=DIR")
        if name in by_name:
            raise ConfigError(
                f"{by_name[name]} and {path} are both called '{name}'; give one another name, as in other={path}"
            )
        by_name[name] = path
    return by_name


def load_models(engine: Engine, places: Sequence[str], settings: Settings, *, device: str = "auto") -> Models:
    """Load adapters; those of one base share it.

    Raises:
        AdapterHubError: one cannot be loaded, or two have one name; as `Engine.load_adapter`.
    """
    adapters = {name: engine.load_adapter(path, device=device) for name, path in named_places(places).items()}
    return Models(adapters, settings)
