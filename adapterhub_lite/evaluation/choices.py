"""What is chosen on held-out rows between a classifier's outputs and its answers: a temperature, and thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adapterhub_lite.errors import ConfigError
from adapterhub_lite.scoring.abstaining import choose_abstention
from adapterhub_lite.scoring.decision import AbstentionRecord, LabelThresholdsRecord, TemperatureRecord
from adapterhub_lite.scoring.label_thresholds import choose_for_labels
from adapterhub_lite.scoring.rules import Choices
from adapterhub_lite.scoring.temperature import find_temperature
from adapterhub_lite.tasks.classification import Classification, likeliest
from adapterhub_lite.tasks.task import Task


def check_choices(choices: Choices, task: Task) -> None:
    """Refuse rules that are not for a task.

    Raises:
        ConfigError: saying what is, if anything.
    """
    several = isinstance(task, Classification) and task.several
    for option, rule, other, fits in (
        ("--abstain", choices.abstain, "--label-thresholds", isinstance(task, Classification) and not several),
        ("--label-thresholds", choices.label_thresholds, "--abstain", several),
    ):
        if rule is not None and not fits:
            kind = "with several labels a row" if several else "with one label a row"
            advice = f"{kind}: use {other}" if isinstance(task, Classification) else "which is no classification"
            raise ConfigError(f"{option} {rule} does not go with this {task.name}, {advice}, or leave it out")


def choose_without_rows(task: Task, choices: Choices) -> None:
    """Keep in a task what needs no rows to be chosen.

    Raises:
        ConfigError: rules that need some, or that are not for this task.
    """
    if choices.needs_rows:
        raise ConfigError("what is answered is chosen on held-out rows; give some that were not trained on")
    choose(task, torch.empty(0), torch.empty(0), None, choices)


def choose(task: Task, logits: Tensor, targets: Tensor, groups: Sequence[int] | None, choices: Choices) -> Tensor:
    """Choose on labelled rows, and keep what is chosen in the task.

    A new temperature makes thresholds that were chosen before meaningless; those are dropped unless chosen anew.

    Args:
        task: That of the rows.
        logits: (n, outputs), at the temperature that the task has.
        targets: (n, ...); a class from the number of labels on is one that the adapter does not know.
        groups: The group of each row; rows of one are not independent.
        choices: What to choose.

    Returns:
        The logits at the temperature that the task has now.

    Raises:
        ConfigError: a rule that is not for this task; DataError: one that cannot be followed on these rows. What was chosen
            before them is kept in the task.
    """
    check_choices(choices, task)
    if not isinstance(task, Classification):
        return logits
    if choices.calibrate:
        logits = logits * task.decision.divisor
        known = targets < len(task.labels) if targets.dim() == 1 else slice(None)
        own = (
            None
            if groups is None
            else [g for g, t in zip(groups, targets, strict=True) if t.dim() or t < len(task.labels)]
        )
        found = find_temperature(logits[known].numpy(), targets[known].long().numpy(), own)
        record = None if found is None else TemperatureRecord(**vars(found))
        task.decision = task.decision.model_copy(update={"temperature": record, "abstention": None, "labels": None})
        logits = logits if found is None else logits / found.value
    if choices.abstain is not None:
        rule = choices.abstain
        kept = AbstentionRecord(threshold=rule.value, rule=str(rule), rows=0) if rule.kind == "threshold" else None
        if rule.needs_rows:
            best, sure = likeliest(logits)
            kept = AbstentionRecord(
                rule=str(rule), **vars(choose_abstention(sure.numpy(), (best == targets).numpy(), rule, groups))
            )
        task.decision = task.decision.model_copy(update={"abstention": kept})
    if choices.label_thresholds is not None:
        rule, given = choices.label_thresholds, None
        if rule.needs_rows:
            probability = logits.double().sigmoid().numpy()
            values = vars(choose_for_labels(probability, (targets > 0.5).numpy(), rule, groups))
            given = LabelThresholdsRecord(rule=str(rule), **{**values, "thresholds": list(values["thresholds"])})
        task.decision = task.decision.model_copy(update={"labels": given})
    return logits
