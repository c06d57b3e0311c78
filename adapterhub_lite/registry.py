"""Strategies by name. Nothing but this turns a name into code, and no file can name a path to import."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from adapterhub_lite.api import Strategy, StrategyConfig
from adapterhub_lite.errors import ConfigError, PluginError, StrategyNotFoundError
from adapterhub_lite.plugins import Plugins, Provided


class Registry:
    """Looks strategies up by bare name, or as `dist:name` where two distributions provide the same one."""

    def __init__(self, plugins: Plugins):
        self._plugins = plugins

    def names(self) -> list[str]:
        """Every name that can be resolved, sorted."""
        return sorted({provided.spec.name for provided in self._plugins.strategies})

    def resolve(self, name: str, *, dist: str | None = None) -> Provided:
        """Find the one provider of a strategy.

        Args:
            name: A strategy's name, or `dist:name`.
            dist: The distribution a saved adapter was made with; preferred where several provide the name.

        Raises:
            StrategyNotFoundError: when none provides it, or several do.
        """
        strategies = self._plugins.strategies
        matches = [p for p in strategies if p.spec.name == name or f"{p.dist}:{p.spec.name}" == name]
        if len(matches) > 1 and dist is not None:
            matches = [p for p in matches if p.dist == dist] or matches
        if len(matches) == 1:
            return matches[0]
        if matches:
            choices = ", ".join(sorted(f"{p.dist}:{p.spec.name}" for p in matches))
            raise StrategyNotFoundError(f"strategy '{name}' is provided more than once; name one of: {choices}")
        raise StrategyNotFoundError(self._missing(name, dist))

    def configure(self, provided: Provided, settings: Mapping[str, Any]) -> StrategyConfig:
        """Build a strategy's config from settings given as text or values.

        Raises:
            ConfigError: naming every setting that is unknown or out of range, and those there are.
        """
        spec = provided.spec
        try:
            return spec.config.model_validate(dict(settings))
        except ValidationError as error:
            problems = []
            for item in error.errors():
                option = ".".join(str(part) for part in item["loc"]) or "settings"
                if item["type"] == "extra_forbidden":
                    close = difflib.get_close_matches(option, spec.config.model_fields, n=1)
                    meant = f" (did you mean '{close[0]}'?)" if close else ""
                    problems.append(f"there is no option '{option}'{meant}")
                else:
                    problems.append(f"{option}={item['input']!r}: {item['msg'].lower()}")
            options = ", ".join(spec.config.model_fields) or "none"
            raise ConfigError(f"strategy '{spec.name}': {'; '.join(problems)}; its options are: {options}") from None

    def load(self, provided: Provided) -> Strategy:
        """Import the heavy half of a strategy.

        Raises:
            PluginError: when that fails, naming the plug-in and its distribution.
        """
        try:
            return provided.spec.load()
        except Exception as error:
            raise PluginError(
                f"strategy '{provided.spec.name}' of plug-in '{provided.plugin}' ({provided.dist} {provided.version}) "
                f"could not be loaded: {type(error).__name__}: {error}"
            ) from error

    def _missing(self, name: str, dist: str | None) -> str:
        names = self.names()
        if not names:
            return (
                f"no strategy '{name}': no strategy plug-in is installed or enabled; the built-in ones come with "
                "`pip install adapterhub-lite`, and ADAPTERHUB_PLUGINS / ADAPTERHUB_DISABLE can hide them"
            )
        failed = [r for r in self._plugins.records if r.state == "failed"]
        close = difflib.get_close_matches(name, names, n=1)
        parts = [f"adapter needs strategy '{name}' ({dist})" if dist else f"there is no strategy '{name}'"]
        if close:
            parts[0] += f" (did you mean '{close[0]}'?)"
        parts.append(f"installed: {', '.join(names)}")
        if dist:
            parts.append(f"pip install {dist}")
        parts += [f"plug-in '{r.name}' ({r.dist}) failed: {r.error}" for r in failed]
        return "; ".join(parts)
