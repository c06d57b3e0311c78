"""What a strategy says about itself: its plug-in module and its config."""

from __future__ import annotations

import json
import subprocess
import sys

from pydantic import ValidationError

from adapterhub_lite.testing.bench import Bench
from adapterhub_lite.testing.check import Check, CheckFailed, demand

HEAVY = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "sklearn", "scipy")
_IMPORT = """
import importlib, json, sys
sys.path[:] = json.loads(sys.argv[1])
for name in json.loads(sys.argv[2]):
    importlib.import_module(name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules} & set(json.loads(sys.argv[3])))))
"""


def check_light_import(bench: Bench) -> None:
    """Importing the plug-in's module imports neither torch nor anything built on it."""
    demand_light(_modules(bench))


def demand_light(modules: list[str]) -> None:
    """Fail where importing these modules imports torch or what is built on it."""
    # A process of its own: in this one everything has long been imported.
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT, json.dumps(sys.path), json.dumps(modules), json.dumps(HEAVY)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    demand(done.returncode == 0, f"importing {', '.join(modules)} in a fresh process fails: {last}")
    heavy = json.loads(done.stdout.strip().splitlines()[-1])
    demand(
        not heavy,
        f"importing {', '.join(modules)} imports {', '.join(heavy)}; import them inside `load` or the functions that "
        "need them, because a plug-in is imported at every start of the program",
    )


def check_config_round_trip(bench: Bench) -> None:
    """The config comes back from JSON as it was: it is written into every adapter."""
    for config in (bench.spec.settings(), bench.config):  # which may hold mappings, and so have no hash
        text = json.dumps(config.model_dump(mode="json"), allow_nan=False)
        try:
            back = bench.spec.settings.model_validate(json.loads(text))
        except ValidationError as error:
            raise CheckFailed(f"the config {text} is refused when read back: {_first(error)}") from error
        for name in type(config).model_fields:
            old, new = getattr(config, name), getattr(back, name)
            demand(old == new and type(old) is type(new), f"option '{name}' was {old!r} and comes back as {new!r}")


def check_config_described(bench: Bench) -> None:
    """Every option of the config has a description and a default."""
    demand(bool(bench.spec.summary.strip()), "the spec's summary is empty")
    for name, field in bench.spec.settings.model_fields.items():
        demand(
            bool((field.description or "").strip()), f"option '{name}' has no description: give Field(description=...)"
        )
        demand(
            not field.is_required(), f"option '{name}' has no default; a {bench.spec.kind} must work without settings"
        )


def check_config_strict(bench: Bench) -> None:
    """The config is frozen and refuses options it does not have."""
    try:
        bench.spec.settings.model_validate({"no_such_option": 1})
    except ValidationError:
        pass
    else:
        raise CheckFailed('the config takes options it does not have; leave extra="forbid" as StrategyConfig has it')
    for name in bench.spec.settings.model_fields:
        try:
            setattr(bench.spec.settings(), name, getattr(bench.config, name))
        except ValidationError:
            continue
        raise CheckFailed(
            f"option '{name}' can be set on a finished config; leave frozen=True as StrategyConfig has it"
        )


def _modules(bench: Bench) -> list[str]:
    """The modules that are imported at start-up: those of the options, of `load` and of a task's `read`."""
    of_config = bench.spec.settings.__module__
    halves = [getattr(bench.spec, name, None) for name in ("load", "read")]
    return sorted({of_config, *(getattr(half, "__module__", of_config) for half in halves)})


def _importable(bench: Bench) -> str | None:
    """The strategy is defined in a module that can be imported."""
    return "the strategy is defined in the program itself, not in a module" if "__main__" in _modules(bench) else None


def _has_options(bench: Bench) -> str | None:
    """The config has a default."""
    required = [name for name, field in bench.spec.settings.model_fields.items() if field.is_required()]
    return f"there is no default config: option '{required[0]}' has no default" if required else None


def _first(error: ValidationError) -> str:
    item = error.errors()[0]
    return f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"


CHECKS = (
    Check(check_light_import, _importable, on="strategy"),
    Check(check_config_described, on="strategy"),
    Check(check_config_round_trip, _has_options, on="strategy"),
    Check(check_config_strict, _has_options, on="strategy"),
)
