"""Text to continue: the task, the tables of texts, completions and chats that it reads, and its tiny models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapterhub_causal_lm.options import FORMS, ROLES, TASK, CausalLMOptions
from adapterhub_lite.api import TaskSpec, hookimpl

if TYPE_CHECKING:
    from adapterhub_lite.api import TinyModel


@hookimpl
def adapterhub_tasks() -> list[TaskSpec]:
    return [
        TaskSpec(
            name=TASK,
            summary="Text to continue: plain text, prompt and completion, or chats.",
            modality="text",
            read="adapterhub_causal_lm.reading:read",
            load="adapterhub_causal_lm.task:CausalLM",
            roles=ROLES,
            options=CausalLMOptions,
            forms=(None, *FORMS),
            labelled=False,
            peft_task_type="CAUSAL_LM",
            pipeline_tag="text-generation",
        )
    ]


@hookimpl
def adapterhub_tiny_models() -> list[TinyModel]:
    from adapterhub_causal_lm.tiny import TINY

    return list(TINY)
