"""The task by name, the roles of its columns, the forms of its data, and its options. Nothing heavy here."""

from __future__ import annotations

from typing import Literal

from adapterhub_lite.api import Field, TaskOptions

TASK = "causal-lm"
ROLES = (
    *(
        "messages",
        "prompt",
        "input",
        "completion",
        "text",
        "system",
        "history",
        "tools",
        "chat_template_kwargs",
        "group",
    ),
)
FORMS = ("text", "completion", "chat")
"""Every `Dataset.form` of texts to continue, by what a row holds."""


class CausalLMOptions(TaskOptions):
    """Options of causal-lm."""

    max_length: int | None = Field(
        default=None, ge=2, description="Tokens an input is cut to; what the base takes, at most 1024."
    )
    packing: bool = Field(
        default=False,
        description="Examples one behind the other in one row, without seeing each other, on an accelerator too; a base that "
        "has to be padded is refused. On a CPU this is done wherever it changes nothing.",
    )
    template: Literal["auto", "chat", "none"] = Field(
        default="auto",
        description="How prompts and completions are written: chat (as a user's and the assistant's turn, by the base's chat "
        "template), none (one after the other), or auto (chat where the base has a template). Messages take the template.",
    )
