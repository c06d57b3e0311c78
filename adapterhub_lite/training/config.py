"""The options of a training run. No torch here."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from adapterhub_lite.cache import size_of
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import Flag, listed_names, one_line, refuse_truth_for_number
from adapterhub_lite.plugins.shelf import refused_options
from adapterhub_lite.scoring.rules import ABSTAIN, LABELS, Rule

Optimizer = Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"]
Schedule = Literal[
    "linear", "cosine", "constant", "cosine_with_restarts", "cosine_with_min_lr", "polynomial", "inverse_sqrt",
    "warmup_stable_decay",
]  # fmt: skip

Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]

KEEPS_NO_RESULT = frozenset(
    {
        *("checkpoint_every", "keep_checkpoints", "activation_offload", "track", "general_text"),
        *("abstain", "label_thresholds", "calibrate"),
    }
)
"""Options that change no number of a run, and may be other ones when it is resumed."""

NOT_CHOSEN = "not_chosen"
"""Where the manifest's `training` says why thresholds that were asked for could not be chosen."""

EPOCHS, BATCH_SIZE = 3.0, 16
"""Of a run for which nothing is chosen."""

CHOSEN = "chosen from the data"

OFF = "off"
"""The general text that is none."""


def world_size() -> int:
    """The number of processes that train together, as torchrun and accelerate say it in WORLD_SIZE.

    Raises:
        ConfigError: it is no number of processes.
    """
    given = os.environ.get("WORLD_SIZE", "1")
    if not (given.isascii() and given.isdecimal() and int(given) > 0):
        raise ConfigError(
            f"WORLD_SIZE is '{given[:40]}', not a number of processes; start them with torchrun, or unset it"
        )
    return int(given)


class TrainConfig(BaseModel):
    """How to train. Of what is not given, `adapterhub_lite.training.defaults` chooses what suits the data.

    Raises:
        ConfigError: naming every option that is unknown or out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    if not TYPE_CHECKING:  # which knows the options by the fields

        def __init__(self, **options):
            try:
                super().__init__(**options)
            except ValidationError as error:
                raise refused_options(TrainConfig, error, "TrainConfig") from None

        # Inside a run file pydantic fills the fields itself, and the error tells where in the file.
        __init__.__pydantic_base_init__ = True

    epochs: Annotated[float | None, Flag(unset=CHOSEN)] = Field(
        default=None, gt=0, description="Passes over the data; ignored where steps are given."
    )
    steps: Annotated[int | None, Flag(unset="as many as the epochs take")] = Field(
        default=None, ge=1, description="Optimizer steps, instead of epochs; nothing is then chosen from the data."
    )
    batch_size: Annotated[int | None, Flag(unset=CHOSEN)] = Field(
        default=None, ge=1, description="Examples per optimizer step."
    )
    micro_batch_size: Annotated[int | None, Flag(unset="the batch size, halved where memory runs out")] = Field(
        default=None,
        ge=1,
        description="Examples computed at once; fewer save memory. In float32 and without dropout the result is the same but "
        "for rounding.",
    )
    learning_rate: Annotated[float | None, Flag("--lr", unset=CHOSEN)] = Field(
        default=None, gt=0, description="Peak learning rate."
    )
    optimizer: Optimizer = Field(
        default="adamw", description="AdamW, or one of bitsandbytes that keeps less on the GPU."
    )
    schedule: Schedule = Field(default="linear", description="How the learning rate goes down after the warm-up.")
    warmup: Annotated[float, Flag(metavar="SHARE")] = Field(
        default=0.06, ge=0, lt=1, description="Share of the steps in which the learning rate rises."
    )
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's decay of matrices; never of biases and norms.")
    clip: float = Field(
        default=1.0, gt=0, description="Largest norm of the gradient; a longer one is scaled down to it."
    )
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Seed of initialisation, order and dropout.")
    base_dropout: Literal["on", "off"] = Field(
        default="on", description="The base's own dropout while an adapter trains; a step is quicker without."
    )
    activation_checkpointing: bool = Field(
        default=False, description="Compute activations again when they are needed: less memory, a third more time."
    )
    activation_offload: bool = Field(
        default=False,
        description="Keep activations in the CPU's memory until they are needed: less of the GPU's, more time.",
    )
    memory: Annotated[str | None, Flag(metavar="SIZE", unset="as much as there is")] = Field(
        default=None,
        description="Stay below so much memory, such as 8GiB: of a card, or what tensors take on a CPU. How many examples are "
        "computed at once, and whether activations are computed again, is chosen for it.",
    )
    shard: bool = Field(
        default=False, description="Spread the base over the processes, for one that does not fit a GPU."
    )
    start_head: Annotated[Literal["random", "probe"] | None, Flag(unset=CHOSEN)] = Field(
        default=None,
        description="What the head starts from; probe: the linear probe's solution (LP-FT), best with few labels.",
    )
    start_penalty: Annotated[float | None, Flag(unset="chosen by cross-validation")] = Field(
        default=None, gt=0, description="Penalty of the probe that the head starts from."
    )
    average: bool = Field(
        default=False,
        description="Score and save the average of the weights over the run, later steps counting more; for long runs.",
    )
    eval_every: Annotated[
        int | None,
        Flag(metavar="STEPS", unset="five times, where rows of the data are held out, else only after training"),
    ] = Field(
        default=None,
        ge=0,
        description="Score the held-out data every so many steps, and keep the best adapter; 0: only after training.",
    )
    keep: Annotated[
        Literal["best", "last-good"] | None,
        Flag(unset="last-good where it is chosen when to score, best where --eval-every says it"),
    ] = Field(
        default=None,
        description="Of the steps that are scored: best, or last-good, the last that is not surely worse than the best one.",
    )
    patience: Annotated[int | None, Flag(unset="never stop early")] = Field(
        default=None, ge=1, description="Stop after so many evaluations without a better one."
    )
    checkpoint_every: Annotated[int | None, Flag(metavar="STEPS", unset="no checkpoints")] = Field(
        default=None, ge=1, description="Commit a checkpoint to the folder beside the adapter every so many steps."
    )
    keep_checkpoints: int = Field(
        default=2, ge=1, description="Newest checkpoints to keep; the best one is kept as well."
    )
    abstain: Annotated[str | None, Flag(metavar="RULE", unset="answer every row")] = Field(
        default=None,
        description="With one label a row: answer only where the probability is over a threshold, which is chosen on the "
        "held-out rows: coverage=0.9 (the surest of them), precision=0.95 (as many as are right so often) or threshold=0.5.",
    )
    label_thresholds: Annotated[str | None, Flag(metavar="RULE", unset="a half for all")] = Field(
        default=None,
        description="With several labels a row: a threshold for each, chosen on the held-out rows: f1 (the best one) or "
        "precision=0.9 (the lowest with so much).",
    )
    calibrate: Literal["auto", "off"] = Field(
        default="auto",
        description="Divide a classifier's logits by a temperature where that improves the log loss of held-out rows that it "
        "is not found on.",
    )
    general_text: Annotated[str | None, Flag(metavar="FILE", unset="a short one of ours, after training on chats")] = (
        Field(
            default=None,
            description="Text on which it is measured what a language model has forgotten: a file of paragraphs, or off.",
        )
    )
    track: list[Tracker] = Field(
        default_factory=list, description="Experiment trackers to log to, separated by commas."
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth(cls, value: Any, info: ValidationInfo) -> Any:
        return refuse_truth_for_number(cls, value, str(info.field_name))

    @field_validator("track", mode="before")
    @classmethod
    def _by_commas(cls, value: Any) -> Any:
        return listed_names([value]) if isinstance(value, str) else value

    def read_general_text(self) -> str | None:
        """The text of the user's on which forgetting is measured; None where there is none.

        Raises:
            ConfigError: a file that cannot be read.
        """
        if self.general_text in (None, OFF):
            return None
        try:
            return Path(self.general_text).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"--general-text {self.general_text}: cannot be read as UTF-8 text ({one_line(error)}); give a file, or off"
            ) from None

    @property
    def examples_a_step(self) -> int:
        """The batch size, where it is not chosen yet as well."""
        return self.batch_size or BATCH_SIZE

    @property
    def examples_at_once(self) -> int:
        """The micro-batch size, before memory runs out."""
        return min(self.micro_batch_size or self.examples_a_step, self.examples_a_step)

    def evaluates_at(self, step: int, total: int) -> bool:
        """Whether the held-out data is scored after a step: every so often, and at the end, which may be the best."""
        every = self.eval_every
        return every is not None and every > 0 and (step % every == 0 or step >= total)

    def check_held_out(self, held_out: bool) -> None:
        """Refuse to score every so often, or to choose thresholds, without anything to do it on.

        Raises:
            ConfigError: saying how to have it.
        """
        if self.eval_every and not held_out:
            raise ConfigError("--eval-every needs held-out data; give it with --eval-data")
        for option, text, kinds in (
            ("--abstain", self.abstain, ABSTAIN),
            ("--label-thresholds", self.label_thresholds, LABELS),
        ):
            if text is not None and Rule.parse(text, option, kinds).needs_rows and not held_out:
                raise ConfigError(
                    f"{option} {text} is chosen on held-out rows; give some with --eval-data or --hold-out"
                )

    def check(self, *, held_out: bool) -> None:
        """Refuse options that make no sense together.

        Raises:
            ConfigError: naming them.
        """
        self.read_general_text()
        self.check_held_out(held_out)
        if self.memory is not None:
            size_of(self.memory, "--memory")
        if self.memory is not None and self.shard:
            raise ConfigError(
                "--memory is counted for one process, and --shard spreads the base over several; give one of them"
            )
        if self.shard and world_size() == 1:
            raise ConfigError(
                "--shard spreads the base over several processes, and this is one; start them with torchrun or "
                "accelerate launch, or leave out --shard"
            )
        for name in self.track:
            # accelerate takes either of the two for TensorBoard.
            if not any(map(find_spec, [name, "tensorboardX"] if name == "tensorboard" else [name])):
                raise ConfigError(f"--track {name}: {name} is not installed; pip install {name}")
        if self.start_penalty is not None and self.start_head != "probe":
            raise ConfigError("--start-penalty is that of the probe the head starts from; give --start-head probe")
        if self.patience is not None and not self.eval_every:
            raise ConfigError("--patience counts evaluations; say how often to evaluate with --eval-every")
