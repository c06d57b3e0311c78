"""The half of the bridge that needs torch and PEFT: one strategy for all of PEFT's methods."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from enum import Enum
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from adapterhub_lite.api import (
    ConfigError,
    ModelView,
    NotSupportedError,
    StrategyConfig,
    StrategyState,
    quiet,
    refuse_settings,
)
from adapterhub_peft.methods import known
from adapterhub_peft.options import LEFT_OUT, OWN, make_config
from adapterhub_peft.source import read_methods
from adapterhub_peft.targets import find_targets, is_transposed

ADAPTER = "default"
MASK_SEEDS = ("random_seed", "random_loc_seed")
"""Options from which PEFT makes parts that do not train; if not set, it would draw others when it opens the file."""
SAVING = ("save_projection", "save_indices", "save_precomputed_indices")
"""PEFT's options for whether what does not train is saved."""
SAME = 1e-3
"""How far the checksum of the frozen part may be off: other hardware rounds in another way."""


class PeftMethod:
    """One of PEFT's methods. PEFT puts its layers into the model; what is trained keeps PEFT's own names in the file.

    Some methods train a few numbers beside tensors that stay fixed: random projections, masks, singular vectors of the
    base. Unless the option `fixed` is set those are not saved. They are made anew from the base and a seed, both of which
    the adapter records, and a checksum tells whether they came out as they were.
    """

    def __init__(self, method: str):
        self.method = method
        self.name = f"peft:{method}"
        self._tuner: Any = None
        self._arguments: dict[str, Any] = {}
        self._seed = 0
        self._frozen: dict[str, Tensor] = {}
        self._fixed: list[str] = []
        self._first: dict[str, str] = {}

    def attach(self, view: ModelView, config: StrategyConfig) -> Mapping[str, nn.Parameter]:
        """Let PEFT put its layers in place of the targets.

        Raises:
            NotSupportedError: PEFT refuses this model, or its frozen part comes out otherwise than when it was saved.
            ConfigError: options that PEFT refuses, or targets that are not there.
        """
        model = view.model
        options = config.model_dump()
        seed: int | None = options["seed"]
        self._seed = int(torch.randint(1 << 31, ())) if seed is None else seed
        self._arguments = self._arguments_of(view, options)
        theirs = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
        peft_config = self._make_config()
        problem: Exception | None = None
        with view.recording(), quiet(), _drawing_from(self._seed):
            try:
                self._tuner = PEFT_TYPE_TO_TUNER_MAPPING[peft_config.peft_type](model, peft_config, ADAPTER)
                self._tuner._cast_adapter_dtype(ADAPTER, autocast_adapter_dtype=True)  # fp32 beside a base of 16 bits
                self._put_in(view, peft_config)
            except Exception as error:  # raised again below, when what has been done so far is in the log
                problem = error
        if problem is not None:
            raise NotSupportedError(
                f"{self.name} cannot be attached to this {type(model).__name__}: {_reason(problem)}; change its options or "
                "targets, or use strategy lora"
            ) from problem
        if getattr(peft_config, "target_parameters", None):
            raise NotSupportedError(
                f"{self.name}: PEFT takes layers of this {type(model).__name__} for experts of an older version and puts its "
                f"own on {', '.join(sorted(peft_config.target_parameters))} instead; use strategy lora, or targets=attention"
            )
        model.train(model.training)
        self._keep_dtype_of_norms()
        for layer in self._tuner.modules():
            if isinstance(layer, BaseTunerLayer):
                layer.register_forward_hook(_narrow_as_its_input)
        file = self._file(peft_config)
        parameters: dict[str, nn.Parameter] = {
            name: tensor
            for name, tensor in file.items()
            if isinstance(tensor, nn.Parameter) and tensor.requires_grad and id(tensor) not in theirs
        }
        if not parameters:
            raise NotSupportedError(
                f"{self.name} finds nothing to adapt in this {type(model).__name__}; change its options or targets, or use "
                "strategy lora"
            )
        for parameter in self._tuner.parameters():  # what PEFT does not save does not train
            parameter.requires_grad_(any(parameter is trained for trained in parameters.values()))
        others = {name: tensor for name, tensor in file.items() if name not in parameters}
        self._fixed = sorted(others) if options["fixed"] else []
        self._frozen = others | {n: buffer for n, buffer in self._tuner.named_buffers() if id(buffer) not in theirs}
        if options["fixed"]:  # what comes from the file is not compared with what is made here
            saved = {id(others[name]) for name in self._fixed}
            self._frozen = {
                n: t for n, t in self._frozen.items() if n not in others and id(t) not in saved
            }  # fmt: skip
        if options["remade"] is not None and not math.isclose(
            options["remade"], checksum(self._frozen), rel_tol=SAME, abs_tol=SAME
        ):
            raise NotSupportedError(
                f"{self.name}: the part that does not train comes out otherwise here than where the adapter was trained, "
                "so its results would be wrong; load it with the versions that it records"
            )
        return parameters

    def export(
        self, view: ModelView, config: StrategyConfig, tensors: Mapping[str, Tensor]
    ) -> tuple[StrategyConfig, Mapping[str, Tensor]]:
        """Write down the seed that was drawn, and what was made from it."""
        remade = checksum(self._frozen) if self._frozen else None
        return config.model_copy(update={"seed": self._seed, "remade": remade}), tensors

    def state(self) -> StrategyState:
        """What does not train and is saved all the same, where the option `fixed` is set."""
        file = self._file(self._make_config()) if self._fixed else {}
        return StrategyState({name: file[name].detach() for name in self._fixed}, in_file=self._fixed)

    def load_state(self, state: StrategyState) -> None:
        """Let PEFT put saved tensors where it keeps them.

        Raises:
            NotSupportedError: PEFT does not keep them as they are.
        """
        tensors = {name: tensor for name, tensor in state.tensors.items() if name in self._fixed}
        if not tensors:
            return
        with quiet():
            set_peft_model_state_dict(self._around(self._make_config()), self._all_names(dict(tensors)), ADAPTER)
        kept = PeftMethod.state(self).tensors
        changed = [name for name in tensors if not torch.equal(kept[name], tensors[name].to(kept[name]))]
        if changed:
            raise NotSupportedError(f"{self.name}: tensor '{changed[0]}' cannot be put into this model as it was saved")

    def peft_config(self, view: ModelView, config: StrategyConfig) -> Mapping[str, Any]:
        """PEFT's own configuration of the same adapter."""
        return {name: _as_json(value) for name, value in self._make_config(inference_mode=True).to_dict().items()}

    def from_peft(
        self, view: ModelView, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> tuple[Mapping[str, Any], Mapping[str, Tensor]] | None:
        """Take over an adapter of this method: its options are PEFT's own, and so are its tensors.

        Raises:
            NotSupportedError: a setting that is no option here, or targets that are no list; names it.
        """
        if config["peft_type"].lower() != self.method:
            return None
        targets = config.get("target_modules")
        if not isinstance(targets, list):
            raise NotSupportedError(f"target_modules={targets!r} is no list of names")
        made = make_config(next(method for method in read_methods() if method.name == self.method))
        options = made.model_fields
        known_settings = frozenset(options) | {"target_modules", "fan_in_fan_out", "modules_to_save", *SAVING}
        refuse_settings(config, known_settings, _defaults(PEFT_TYPE_TO_CONFIG_MAPPING[self.method.upper()]))
        settings = {name: value for name, value in config.items() if name in options and value is not None}
        settings["targets"] = ",".join(sorted(targets))
        if isinstance(settings.get("feedforward_modules"), list):
            settings["feedforward_modules"] = ",".join(sorted(settings["feedforward_modules"]))
        trial = type(self)(self.method)
        trained = trial.attach(view, made.model_validate({**settings, "fixed": True}))
        # One tensor under the names of several layers is kept once; under each name it has to be the same.
        once: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            first = trial._first.get(name, name)
            if not torch.equal(once.setdefault(first, tensor), tensor):
                raise NotSupportedError(
                    f"tensor '{name}' is one and the same as '{first}' here, and in the file another"
                )
        return {**settings, "fixed": any(name not in trained for name in once)}, once

    def _arguments_of(self, view: ModelView, options: dict[str, Any]) -> dict[str, Any]:
        """What PEFT's configuration class is called with."""
        own = {option.name for option in OWN}
        known_fields = PEFT_TYPE_TO_CONFIG_MAPPING[self.method.upper()].__dataclass_fields__
        targets = find_targets(view, options["targets"], self.name)
        arguments = {name: value for name, value in options.items() if name not in own} | dict(known(self.method).fixed)
        arguments["target_modules"] = targets
        if "feedforward_modules" in arguments:
            wanted = arguments["feedforward_modules"]
            arguments["feedforward_modules"] = find_targets(view, wanted, self.name) if wanted else []
        for name, value in arguments.items():
            if name in MASK_SEEDS and value is None:
                arguments[name] = self._seed
        decided = {
            "fan_in_fan_out": any(is_transposed(view.module(path)) for path in targets),
            "progressbar": False,
            **dict.fromkeys(SAVING, bool(options["fixed"])),
        }
        assert decided.keys() <= LEFT_OUT.keys()
        return arguments | {name: value for name, value in decided.items() if name in known_fields}

    def _put_in(self, view: ModelView, peft_config: Any) -> None:
        """Change the layers that PEFT has just put in, where a method needs it."""

    def _make_config(self, *, inference_mode: bool = False) -> Any:
        try:
            with quiet():
                return PEFT_TYPE_TO_CONFIG_MAPPING[self.method.upper()](
                    **self._arguments, inference_mode=inference_mode
                )
        except (ValueError, TypeError, KeyError, ImportError) as error:
            raise ConfigError(f"{self.name}: PEFT refuses these options: {_reason(error)}") from error

    def _file(self, peft_config: Any) -> dict[str, Tensor]:
        """What PEFT would save, by its names: parameters and buffers themselves, not copies of them."""
        around = self._around(peft_config)
        with quiet():
            saved: dict[str, Tensor] = get_peft_model_state_dict(
                around, around.state_dict(keep_vars=True), ADAPTER, save_embedding_layers=False
            )
        # A parameter that several layers share is one parameter, under the first of its names.
        first: dict[int, str] = {}
        self._first = {name: first.setdefault(id(tensor), name) for name, tensor in saved.items()}
        return {name: saved[name] for name in first.values()}

    def _all_names(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors under every name that PEFT has for them."""
        return {name: tensors[first] for name, first in self._first.items() if first in tensors}

    def _around(self, peft_config: Any) -> nn.Module:
        """What stands in the place of a PeftModel, whose names PEFT's files have."""
        around = nn.Module()
        around.base_model = self._tuner
        around.peft_config = {ADAPTER: peft_config}  # type: ignore[assignment]
        return around

    def _keep_dtype_of_norms(self) -> None:
        """Let trained copies of normalization layers hold fp32 where the base has 16 bits, in which small steps vanish."""
        for layer in self._tuner.modules():
            for copy in getattr(layer, "ln_tuning_layers", {}).values():
                if any(parameter.dtype in (torch.bfloat16, torch.float16) for parameter in copy.parameters()):
                    copy.float().register_forward_hook(lambda _, args, output: output.to(args[0].dtype))


class MergeablePeftMethod(PeftMethod):
    """A method whose adapter PEFT can fold into the weights of the base."""

    def merge(self, view: ModelView, config: StrategyConfig, tensors: Mapping[str, Tensor]) -> None:
        """Let PEFT write the adapter into the base weights.

        Raises:
            NotSupportedError: on a quantized base, where writing would round the adapter away, or where PEFT refuses.
        """
        layers = [(path, module) for path, module in view.model.named_modules() if isinstance(module, BaseTunerLayer)]
        for path, _ in layers:
            if view.is_quantized(f"{path}.base_layer"):
                raise NotSupportedError(f"{self.name}: '{path}' is quantized; merge into the unquantized base instead")
        for path, layer in layers:
            base = layer.base_layer
            try:
                layer.merge(safe_merge=True, adapter_names=[ADAPTER])
            except (ValueError, NotImplementedError, TypeError) as error:
                raise NotSupportedError(f"{self.name} cannot be merged into '{path}': {_reason(error)}") from error
            if layer.base_layer is not base:  # PEFT put a trained copy in its place, which detaching takes away again
                for ours, trained in zip(base.parameters(), layer.base_layer.parameters(), strict=True):
                    ours.data.copy_(trained.data)


def _narrow_as_its_input(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    """Some of PEFT's layers around 4-bit ones answer 16 bits in fp32, which the layers of the base behind them refuse."""
    given = inputs[0].dtype if inputs and isinstance(inputs[0], Tensor) else None
    wider = isinstance(output, Tensor) and output.dtype == torch.float32
    return output.to(given) if wider and given in (torch.bfloat16, torch.float16) else output


def checksum(tensors: Mapping[str, Tensor]) -> float:
    """A number that stays nearly the same when tensors are rounded differently, and changes when they hold other values.

    Each tensor, scaled to length 1, is projected on a fixed direction; the projections are summed with fixed weights.
    """
    total = 0.0
    for place, name in enumerate(sorted(tensors)):
        tensor = tensors[name].detach().cpu()
        values = (torch.view_as_real(tensor) if tensor.is_complex() else tensor).double().flatten()
        direction = torch.arange(len(values), dtype=torch.float64).cos_()
        total += math.cos(place) * float(values @ direction) / (float(values.norm()) or 1.0)
    return round(total, 6)


def _defaults(config: Any) -> dict[str, Any]:
    """What PEFT assumes where a setting is not given; without making a configuration, which some refuse to be like that."""
    given = {field.name: field for field in fields(config)}
    plain = {name: field.default for name, field in given.items() if field.default is not MISSING}
    made = {name: field.default_factory for name, field in given.items()}
    return plain | {name: make() for name, make in made.items() if make is not MISSING}


def _as_json(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return sorted(value) if isinstance(value, set) else value


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return f"{text[:400]} ({type(error).__name__} in PEFT)" if text else type(error).__name__


@contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """Draw random numbers from a seed, and leave the global generators as they were."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
