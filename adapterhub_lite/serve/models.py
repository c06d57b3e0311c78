"""The adapters that are served, by name, and the bases they share."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import did_you_mean
from adapterhub_lite.progress import Silent
from adapterhub_lite.serve.answering import Answers, Asked, Writer, predict_together
from adapterhub_lite.serve.refusal import Refusal, bad
from adapterhub_lite.serve.settings import Settings
from adapterhub_lite.serve.turns import Job, Turns


class Model:
    """One adapter that is served; what happens to its folder no longer matters.

    Args:
        name: What requests call it.
        adapter: Answers them.
        turns: Of its base.
    """

    def __init__(self, name: str, adapter: Adapter, turns: Turns):
        self.name, self.adapter, self.turns = name, adapter, turns
        self.task, self.loaded = adapter.attachment.task, int(time.time())
        adapter.progress = Silent()  # a line for each request would say nothing
        self._writer = Writer(adapter)

    def described(self) -> dict[str, Any]:
        """As `/v1/models` lists it."""
        own = {"task": self.task.name, "base": self.adapter.base.reference}
        return {"id": self.name, "object": "model", "created": self.loaded, "owned_by": "adapterhub-lite", **own}

    def job(self, asked: Dataset | Asked) -> Job:
        """A request for what it asks, which waits for its turn from now on.

        Raises:
            Refusal: too many wait, or the server stops.
        """
        if isinstance(asked, Asked):
            job = Job(self.name, asked, 1, partial(Answers, self._writer))
        else:  # rows are answered together with those that were read alike
            kind = (self.name, asked.form, *sorted(asked.columns.items()))
            job = Job(kind, asked, len(asked), partial(predict_together, self.adapter))
        self.turns.submit(job)
        return job


class Models:
    """All adapters that are served, with a thread for each of their bases."""

    def __init__(self, adapters: Mapping[str, Adapter], settings: Settings):
        turns = {id(adapter.base): Turns(settings.at_once, settings.queue) for adapter in adapters.values()}
        self.turns = list(turns.values())
        self._models = {name: Model(name, adapter, turns[id(adapter.base)]) for name, adapter in adapters.items()}

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def named(self, name: str | None, *, generates: bool | None = None) -> Model:
        """The adapter of a name; without a name, the only one.

        Raises:
            Refusal: there is none, which one is not said, or it is asked where it does not answer.
        """
        names = list(self._models)
        if name is None and len(names) > 1:
            raise bad(f'say which adapter is asked: "model" is one of {", ".join(names)}', "model")
        model = self._models.get(names[0] if name is None else name)
        if model is None:
            message = f"there is no model {name!r:.80}{did_you_mean(str(name), names)}; GET /v1/models lists them"
            raise Refusal(404, message, "model", "model_not_found")
        if generates is not None and model.task.generates != generates:
            where = "/v1/chat/completions" if model.task.generates else "/predict"
            raise bad(f"'{model.name}' is an adapter for {model.task.name}; ask it at POST {where}", "model")
        return model


def named_places(places: Sequence[str]) -> dict[str, str]:
    """The folder of each adapter by its name: as in NAME=DIR, else that of the folder.

    Raises:
        ConfigError: two of one name.
    """
    by_name: dict[str, str] = {}
    for place in places:
        name, equals, path = place.partition("=")
        if not equals or Path(place).exists():
            name, path = Path(place).resolve().name, place
        if not name or not path:
            raise ConfigError(f"{place}: write it as NAME=DIR")
        if name in by_name:
            raise ConfigError(
                f"{by_name[name]} and {path} are both called '{name}'; give one another name, as in other={path}"
            )
        by_name[name] = path
    return by_name
