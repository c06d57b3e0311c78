"""Strategies and tasks by name. Nothing but this turns a name into code, and no file can name a path to import."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from adapterhub_lite.errors import AdapterHubError, ConfigError, PluginError, StrategyNotFoundError
from adapterhub_lite.names import did_you_mean
from adapterhub_lite.plugins.find import Record
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.spec import IN_PROGRAM, OURS, Kind, Provided, StrategySpec

Options = TypeVar("Options", bound=BaseModel)


class Shelf(Generic[Kind]):
    """Looks specs of one kind up by bare name, or as `dist:name` where two distributions provide the same one.

    Args:
        kind: "strategy" or "task".
        offered: Everything there is now.
        records: What became of each plug-in, so that a missing name can be explained.
        not_there: The error for a name that cannot be resolved.
    """

    def __init__(
        self,
        kind: str,
        offered: Callable[[], Sequence[Provided[Kind]]],
        records: Callable[[], Sequence[Record]],
        not_there: type[AdapterHubError] = ConfigError,
    ):
        self._kind, self._offered, self._records, self._not_there = kind, offered, records, not_there
        self._made: dict[int, weakref.ref[Any]] = {}

    @property
    def offered(self) -> Sequence[Provided[Kind]]:
        """Everything that can be resolved, in the order in which it is offered."""
        return self._offered()

    def names(self) -> list[str]:
        """Every bare name that can be resolved, sorted."""
        return sorted({provided.spec.name for provided in self.offered})

    def resolve(self, name: str, *, dist: str | None = None, version: str | None = None) -> Provided[Kind]:
        """Find the one provider of a name.

        Args:
            name: A bare name, or `dist:name`.
            dist: The distribution a saved adapter was made with; no other one's of that name will do.
            version: Its version then, for the message.

        Raises:
            StrategyNotFoundError, ConfigError: when none provides it, or several do.
        """
        if not isinstance(name, str):
            raise self._not_there(
                f"the {self._kind} is a {type(name).__name__}; give its name: {', '.join(self.names())}"
            )
        matches = [offer for offer in self.offered if name in (offer.spec.name, offer.qualified)]
        if dist is not None and dist != IN_PROGRAM:
            matches = [offer for offer in matches if offer.dist in (dist, IN_PROGRAM)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            choices = ", ".join(sorted(offer.qualified for offer in matches))
            raise self._not_there(f"{self._kind} '{name}' is provided more than once; name one of: {choices}")
        raise self._not_there(self._missing(name, dist, version))

    def configure(self, provided: Provided[Kind], settings: Mapping[str, Any] | BaseModel) -> Any:
        """Build the options of what is provided, an instance of its spec's class, from text or values.

        Options that were built already are taken as they are.

        Raises:
            ConfigError: naming every option that is unknown or out of range, and those there are.
        """
        if isinstance(settings, provided.spec.settings):
            return settings
        return checked_options(provided.spec.settings, settings, f"{self._kind} '{provided.spec.name}'")

    def load(self, provided: Provided[Kind]) -> Any:
        """Import the half that needs torch: of a strategy a new instance, which belongs to one adapter.

        Raises:
            PluginError: when that fails, or gives an instance a second time; names the plug-in and its distribution.
        """
        spec = provided.spec
        whose = f"{self._kind} '{spec.name}' of plug-in '{provided.plugin}' ({provided.dist} {provided.version}) "
        try:
            made = spec.make()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit in a plug-in must not end the program
            raise PluginError(f"{whose}could not be loaded: {type(error).__name__}: {error}") from error
        if not callable(getattr(made, spec.method, None)):
            raise PluginError(f"{whose}loads {made!r}, which has no method '{spec.method}'")
        if spec.kind == "strategy":
            before = self._made.get(id(made))
            if before is not None and before() is made:
                raise PluginError(f"{whose}loads the same object again; return a new one for each adapter")
            with suppress(TypeError):  # not every object can be referred to weakly
                self._made[id(made)] = weakref.ref(made)
        return made

    def able(self, protocol: type) -> Iterator[tuple[Provided[Kind], Any]]:
        """Load what is offered, ours first, and give whatever has a protocol; what cannot be loaded is warned of."""
        for provided in sorted(self.offered, key=lambda offer: offer.dist != OURS):
            try:
                made = self.load(provided)
            except PluginError as error:
                warnings.warn(f"{error}; going on without it", RuntimeWarning, stacklevel=2)
                continue
            if isinstance(made, protocol):
                yield provided, made

    def _missing(self, name: str, dist: str | None, version: str | None) -> str:
        names = self.names()
        if not names:
            return (
                f"no {self._kind} '{name}': no {self._kind} plug-in is installed or enabled; the built-in ones come with "
                "`pip install adapterhub-lite`, and ADAPTERHUB_PLUGINS / ADAPTERHUB_DISABLE can hide them"
            )
        prefix = name.rpartition(":")[0]
        if dist is not None:
            parts = [f"adapter needs {self._kind} '{name}' ({' '.join(filter(None, (dist, version)))})"]
        elif prefix and not any(known.startswith(f"{prefix}:") for known in names):
            parts = [f"{self._kind} '{name}' is not installed; pip install {prefix}"]
        else:
            parts = [f"there is no {self._kind} '{name}'{did_you_mean(name, names)}"]
        others = sorted(offer.dist for offer in self.offered if offer.spec.name == name)
        if others:
            parts.append(f"the one of that name in {', '.join(others)} is another")
        parts.append(f"installed: {', '.join(names)}")
        if dist == IN_PROGRAM:
            parts.append("register the module that provided it, with Plugins().register(module)")
        elif dist is not None:
            parts.append(f"pip install {dist}")
        records = self._records()
        if dist is None and not any(record.dist == OURS for record in records):
            parts.append(f"the plug-ins that come with {OURS} are not there; pip install {OURS}")
        disabled = [record.name for record in records if record.state == "disabled"]
        if disabled:
            parts.append(f"plug-ins that are there but disabled: {', '.join(disabled)}")
        return "; ".join(
            parts + [f"plug-in '{r.name}' ({r.dist}) failed: {r.error}" for r in records if r.state == "failed"]
        )


def strategy_shelf(plugins: Plugins) -> Shelf[StrategySpec]:
    """The strategies by name."""
    return Shelf("strategy", lambda: plugins.strategies, lambda: plugins.records, StrategyNotFoundError)


def checked_options(kind: type[Options], settings: Mapping[str, Any] | BaseModel, whose: str) -> Options:
    """Build options from settings given as text or values.

    Args:
        kind: The class of the options.
        settings: Values by name.
        whose: For the message: "strategy 'lora'".

    Raises:
        ConfigError: naming every setting that is unknown or out of range, and those there are.
    """
    if not isinstance(settings, (Mapping, BaseModel)):
        raise ConfigError(f"{whose}: options are a {type(settings).__name__}; give a mapping from names to values")
    try:
        return kind.model_validate(dict(settings))
    except ValidationError as error:
        raise refused_options(kind, error, whose) from None


def refused_options(kind: type[BaseModel], error: ValidationError, whose: str) -> ConfigError:
    """The error that names every option that is unknown or out of range, and those there are."""
    problems = []
    for item in error.errors():
        option = ".".join(str(part) for part in item["loc"]) or "settings"
        if item["type"] == "extra_forbidden":
            problems.append(f"there is no option '{option}'{did_you_mean(option, list(kind.model_fields))}")
        else:
            problems.append(f"{option}={item['input']!r}: {item['msg'].lower()}")
    options = ", ".join(kind.model_fields) or "none"
    return ConfigError(f"{whose}: {'; '.join(problems)}; its options are: {options}")
