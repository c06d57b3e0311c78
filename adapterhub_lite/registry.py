"""Strategies by name. Nothing but this turns a name into code, and no file can name a path to import."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from adapterhub_lite.api import Strategy, StrategyConfig
from adapterhub_lite.errors import ConfigError, PluginError, StrategyNotFoundError
from adapterhub_lite.plugins import IN_PROGRAM, Plugins, Provided

Options = TypeVar("Options", bound=BaseModel)


class Registry:
    """Looks strategies up by bare name, or as `dist:name` where two distributions provide the same one."""

    def __init__(self, plugins: Plugins):
        self._plugins = plugins

    def names(self) -> list[str]:
        """Every name that can be resolved, sorted."""
        return sorted({provided.spec.name for provided in self._plugins.strategies})

    def resolve(self, name: str, *, dist: str | None = None, version: str | None = None) -> Provided:
        """Find the one provider of a strategy.

        Args:
            name: A strategy's name, or `dist:name`.
            dist: The distribution a saved adapter was made with; no other one's strategy of that name will do.
            version: Its version then, for the message.

        Raises:
            StrategyNotFoundError: when none provides it, or several do.
        """
        strategies = self._plugins.strategies
        matches = [p for p in strategies if p.spec.name == name or f"{p.dist}:{p.spec.name}" == name]
        if dist is not None and dist != IN_PROGRAM:
            matches = [p for p in matches if p.dist in (dist, IN_PROGRAM)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            choices = ", ".join(sorted(f"{p.dist}:{p.spec.name}" for p in matches))
            raise StrategyNotFoundError(f"strategy '{name}' is provided more than once; name one of: {choices}")
        raise StrategyNotFoundError(self._missing(name, dist, version))

    def configure(self, provided: Provided, settings: Mapping[str, Any]) -> StrategyConfig:
        """Build a strategy's config from settings given as text or values.

        Raises:
            ConfigError: naming every setting that is unknown or out of range, and those there are.
        """
        return checked_options(provided.spec.config, settings, f"strategy '{provided.spec.name}'")

    def load(self, provided: Provided) -> Strategy:
        """Import the heavy half of a strategy.

        Raises:
            PluginError: when that fails, naming the plug-in and its distribution.
        """
        whose = f"strategy '{provided.spec.name}' of plug-in '{provided.plugin}' ({provided.dist} {provided.version}) "
        try:
            strategy = provided.spec.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit in a plug-in must not end the program
            raise PluginError(f"{whose}could not be loaded: {type(error).__name__}: {error}") from error
        if not callable(getattr(strategy, "attach", None)):
            raise PluginError(f"{whose}loads {strategy!r}, which has no method 'attach'")
        return strategy

    def _missing(self, name: str, dist: str | None, version: str | None) -> str:
        names = self.names()
        if not names:
            return (
                f"no strategy '{name}': no strategy plug-in is installed or enabled; the built-in ones come with "
                "`pip install adapterhub-lite`, and ADAPTERHUB_PLUGINS / ADAPTERHUB_DISABLE can hide them"
            )
        others = sorted(p.dist for p in self._plugins.strategies if p.spec.name == name)
        close = difflib.get_close_matches(name, names, n=1)
        if dist is None:
            parts = [f"there is no strategy '{name}'" + (f" (did you mean '{close[0]}'?)" if close else "")]
        else:
            parts = [f"adapter needs strategy '{name}' ({' '.join(filter(None, (dist, version)))})"]
        if others:
            parts.append(f"the one of that name in {', '.join(others)} is another")
        parts.append(f"installed: {', '.join(names)}")
        if dist == IN_PROGRAM:
            parts.append("register the module that provided it, with Plugins().register(module)")
        elif dist is not None:
            parts.append(f"pip install {dist}")
        parts += [
            f"plug-in '{r.name}' ({r.dist}) failed: {r.error}" for r in self._plugins.records if r.state == "failed"
        ]
        return "; ".join(parts)


def checked_options(kind: type[Options], settings: Mapping[str, Any], whose: str) -> Options:
    """Build options from settings given as text or values.

    Args:
        kind: The class of the options.
        settings: Values by name.
        whose: For the message: "strategy 'lora'".

    Raises:
        ConfigError: naming every setting that is unknown or out of range, and those there are.
    """
    try:
        return kind.model_validate(dict(settings))
    except ValidationError as error:
        problems = []
        for item in error.errors():
            option = ".".join(str(part) for part in item["loc"]) or "settings"
            if item["type"] == "extra_forbidden":
                close = difflib.get_close_matches(option, kind.model_fields, n=1)
                meant = f" (did you mean '{close[0]}'?)" if close else ""
                problems.append(f"there is no option '{option}'{meant}")
            else:
                problems.append(f"{option}={item['input']!r}: {item['msg'].lower()}")
        options = ", ".join(kind.model_fields) or "none"
        raise ConfigError(f"{whose}: {'; '.join(problems)}; its options are: {options}") from None
