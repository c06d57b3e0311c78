"""Every method of the installed PEFT that can be put into a model's layers, as `peft:<method>`.

Names, options and their help come from the source of the installed PEFT (`source`, `options`), which costs hundredths of
a second and imports neither PEFT nor torch. What each method can do was found by running it (`methods`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from importlib import import_module

from adapterhub_lite.api import Strategy, StrategyConfig, StrategySpec, Traits, hookimpl
from adapterhub_peft.methods import REFUSED, known
from adapterhub_peft.options import make_config
from adapterhub_peft.source import Method, read_methods


def load(method: str) -> Strategy:
    """Import the half that needs torch and PEFT, and make an instance for one attachment."""
    facts = known(method)
    module, _, name = (facts.strategy or f"strategy:{'Mergeable' * facts.mergeable}PeftMethod").partition(":")
    made: Strategy = getattr(import_module(f"{__name__}.{module}"), name)(method)
    return made


@hookimpl
def adapterhub_strategies() -> list[StrategySpec]:
    return [_spec(method) for method in read_methods() if not method.prompt_learning and method.name not in REFUSED]


def _spec(method: Method) -> StrategySpec:
    facts = known(method.name)
    limits = [facts.limits] if facts.limits else []
    limits += [] if facts.quantized else ["unquantized bases only"]
    limits += [] if facts.conv1d else ["not on GPT-2's layers"]
    limits += [] if facts.tokenwise else ["padding and cached generation change its outputs"]
    limits += [] if len(facts.modalities) > 1 else [f"{next(iter(facts.modalities))} only"]
    limits += [] if facts.mergeable else ["cannot be merged"]
    limits += [] if facts.identity else ["does not start at the base"]
    traits = Traits(
        mergeable=facts.mergeable,
        works_on_quantized_base=facts.quantized,
        identity_at_init=facts.identity,
        modalities=facts.modalities,
    )
    return StrategySpec(
        name=f"peft:{method.name}",
        summary=f"{facts.summary} PEFT's files." + (f" Limits: {', '.join(limits)}." if limits else ""),
        config=make_config(method),
        load=partial(load, method.name),
        traits=traits,
        traits_for=partial(traits_with, traits),
        learning_rate=facts.learning_rate,
    )


STARTS = ("init_weights", "init_lora_weights", "init_ia3_weights")
"""Options that say how a method's numbers begin; with False they are drawn, and change the outputs at once."""
MOVED = ("kasa_config", "monteclora_config")
"""Options of variants that do not begin at the base."""


def traits_with(usual: Traits, config: StrategyConfig) -> Traits:
    """What a method promises with some options; `usual` is what it does with its own."""
    given = config.model_dump()
    moved = any(given.get(name) is False for name in STARTS) or any(given.get(name) is not None for name in MOVED)
    return replace(usual, identity_at_init=usual.identity_at_init and not moved)
