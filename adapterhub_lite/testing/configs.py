"""Another config of a strategy than the one at hand, found by trying."""

from __future__ import annotations

from collections.abc import Iterator

from adapterhub_lite.errors import AdapterHubError
from adapterhub_lite.plugins.spec import StrategyConfig
from adapterhub_lite.testing.bench import Bench


def other_config(bench: Bench) -> StrategyConfig | None:
    """A config with one number changed that attaches to the model; None where there is no such number."""
    for config in _variants(bench.config):
        try:
            bench.attach(bench.base(), config=config)
        except AdapterHubError:
            continue
        return config
    return None


def _variants(config: StrategyConfig) -> Iterator[StrategyConfig]:
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            continue
        others = (
            [1, 2] if value is None else [value + 1, value - 1] if isinstance(value, int) else [value * 2, value / 2]
        )
        for other in others:
            try:
                yield type(config).model_validate({**config.model_dump(), name: other})
            except ValueError:  # out of range
                continue
