"""What a model is asked to do: one module a task, and `make_task`, the one place where they are listed."""

from __future__ import annotations

from collections.abc import Sequence

from adapterhub_lite.names import TASKS, check_choice
from adapterhub_lite.tasks.task import Preprocessing, Task


def make_task(name: str, labels: Sequence[str], preprocessing: Preprocessing) -> Task:
    """Build a task.

    Args:
        name: One of `TASKS`.
        labels: Class names in the order of the head's outputs; empty for a language model.
        preprocessing: How inputs become tensors; the same for training and ever after.

    Raises:
        ConfigError: a task that does not exist.
    """
    check_choice("task", name, TASKS)
    if name == "causal-lm":
        from adapterhub_lite.tasks.causal_lm import CausalLM

        return CausalLM(preprocessing)
    if name == "image-classification":
        from adapterhub_lite.tasks.image_classification import ImageClassification

        return ImageClassification(labels, preprocessing)
    from adapterhub_lite.tasks.text_classification import TextClassification

    return TextClassification(labels, preprocessing)
