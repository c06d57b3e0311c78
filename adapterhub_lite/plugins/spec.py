"""What a plug-in says of itself: the contract's version, and a strategy described without importing torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import pluggy
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import refuse_truth_for_number

API_VERSION = 1
"""The version of this contract; a spec that asks for another one is refused by name."""

PROJECT = "adapterhub_lite"
IN_PROGRAM = "(in this program)"
"""The distribution of a plug-in that was registered by hand."""
OURS = "adapterhub-lite"
"""The distribution whose plug-ins are the built-in ones."""
hookimpl = pluggy.HookimplMarker(PROJECT)

Modality = Literal["text", "image", "series"]
TargetKind = Literal["classes", "labels", "values"]
MODALITIES: frozenset[Modality] = frozenset({"text", "image", "series"})
LOAD_PATTERN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
SUFFIX_PATTERN = re.compile(r"\.[a-z0-9]+")
NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]*(:[a-z0-9_]+)?")


class StrategyConfig(BaseModel):
    """The options of a strategy: a frozen pydantic model whose every field has a description and a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth(cls, value: Any, info: ValidationInfo) -> Any:
        return refuse_truth_for_number(cls, value, str(info.field_name))


@dataclass(frozen=True)
class Traits:
    """What a strategy promises; the conformance kit holds it to each of these."""

    mergeable: bool = False
    """The strategy has a `merge` that folds the adapter into the base weights."""
    works_on_quantized_base: bool = True
    """It never reads or writes base weights as floating-point numbers."""
    identity_at_init: bool = False
    """Freshly attached, it leaves the outputs of the base as they were."""
    needs_base_gradients: bool = True
    """Training sends gradients through the base; False lets the engine encode the data once."""
    trains_base: bool = False
    """It trains weights of the base itself, which are then kept in fp32 while training."""
    modalities: frozenset[Modality] = MODALITIES


def imported(place: Any) -> Any:
    """What stands at "module:name", imported now; anything but text as it is."""
    if not isinstance(place, str):
        return place
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


class Spec:
    """What strategies and tasks have in common: a name, options, and a half that is imported on first use."""

    kind: ClassVar[Literal["strategy", "task"]]
    method: ClassVar[str]
    """What is loaded has this method."""
    name: str
    summary: str
    load: str | Callable[[], Any]
    """Where the half that needs torch is, as "module:Class", or a function that returns it."""
    api: int

    @property
    def settings(self) -> type[BaseModel]:
        """The class of its options."""
        raise NotImplementedError

    def make(self) -> Any:
        """Import the half that needs torch: an instance of a strategy's class, the class of a task."""
        if not isinstance(self.load, str):
            return self.load()
        made = imported(self.load)
        return made() if self.kind == "strategy" else made

    def check(self, pattern: re.Pattern[str], shape: str, options: type[BaseModel]) -> None:
        """Refuse a description that cannot be used.

        Args:
            pattern: Of the name.
            shape: The pattern in words.
            options: The class that its options are a subclass of.

        Raises:
            ConfigError: naming what is wrong.
        """
        if not isinstance(self.name, str) or not pattern.fullmatch(self.name):
            raise ConfigError(f"{self.kind} name {self.name!r} must be {shape}")
        if not (isinstance(self.settings, type) and issubclass(self.settings, options)):
            what = "config" if self.kind == "strategy" else "options"
            raise ConfigError(
                f"{self.kind} {self.name!r}: {what} must be a subclass of {options.__name__}, not {self.settings!r}"
            )
        if not callable(self.load) and not (isinstance(self.load, str) and LOAD_PATTERN.fullmatch(self.load)):
            raise ConfigError(
                f"{self.kind} {self.name!r}: load must be 'module:Class' or a function that returns the {self.kind}"
            )


Kind = TypeVar("Kind", bound=Spec)


@dataclass(frozen=True)
class Provided(Generic[Kind]):
    """A strategy or a task with the plug-in that provides it."""

    spec: Kind
    plugin: str
    dist: str
    version: str

    @property
    def qualified(self) -> str:
        """The name by which it is found among several of its name."""
        return f"{self.dist}:{self.spec.name}"

    @property
    def recorded(self) -> str:
        """The name of a task that adapters record: bare for ours, with the distribution for a plug-in's."""
        return self.spec.name if self.dist == OURS else self.qualified


@dataclass(frozen=True)
class Situation:
    """What is known of a run before its first step: options of training that are not given are chosen by it."""

    task: str
    modality: Modality
    predicts: TargetKind
    rows: int
    """To learn from."""
    classes: int
    """Labels, or 0 where numbers are predicted or text is continued."""
    held_out: int
    """Rows kept apart from --data to score on; 0 where there are none, and where these are of another file."""
    has_probe: bool
    """A linear probe can give the head its start."""
    convolutional: bool
    """The base is a convolutional network."""


@dataclass(frozen=True)
class StrategySpec(Spec):
    """One strategy, described without importing torch."""

    kind = "strategy"
    method = "attach"

    name: str
    summary: str
    config: type[StrategyConfig]
    load: str | Callable[[], Any]
    """`"module:Class"`, the class of the strategy, or a function that returns one."""
    traits: Traits = field(default_factory=Traits)
    """With the default options, and with all others unless `traits_for` says otherwise."""
    learning_rate: float = 1e-4
    """A good default for the optimizer, used where the user names none."""
    api: int = API_VERSION
    traits_for: Callable[[Any], Traits] | None = None
    """The traits with an instance of `config`, where they depend on it. It imports no torch."""
    suggest: Callable[[Situation], Mapping[str, Any]] | None = None
    """Options of training that suit it, by their names in a run file, such as {"epochs": 8, "learning_rate": 1e-3}; they go
    before what is chosen for every strategy, and behind what the user gives. It imports no torch."""

    @property
    def settings(self) -> type[BaseModel]:
        return self.config

    def traits_of(self, config: StrategyConfig) -> Traits:
        """What the strategy promises with these options.

        Raises:
            ConfigError: `traits_for` gives something else.
        """
        if self.traits_for is None:
            return self.traits
        traits = self.traits_for(config)
        if not isinstance(traits, Traits):
            raise ConfigError(f"strategy {self.name!r}: traits_for gave {traits!r}, not Traits")
        return traits

    def __post_init__(self) -> None:
        self.check(NAME_PATTERN, "lower case letters, digits and '_', as in 'my_lora'", StrategyConfig)


ProvidedStrategy = Provided[StrategySpec]


@dataclass(frozen=True)
class ReaderSpec:
    """Files that hold a table in a format that the core does not read, for whatever task."""

    suffixes: tuple[str, ...]
    """How their names end: lower case letters and digits after a dot."""
    read: Callable[[Path], Any]
    """Gives the rows of a file as `read_table` takes them in memory: a list of dictionaries, a frame, an Arrow table."""

    def __post_init__(self) -> None:
        wrong = [suffix for suffix in self.suffixes if not SUFFIX_PATTERN.fullmatch(suffix)]
        if isinstance(self.suffixes, str) or wrong or not self.suffixes or not callable(self.read):
            raise ConfigError(
                f"reader of {self.suffixes!r}: give suffixes as in ('.foo',), and a function that reads a file"
            )
