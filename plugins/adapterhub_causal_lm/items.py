"""What a row holds: a text, a prompt with its completion, or a chat."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Text:
    """A text to learn whole."""

    text: str


@dataclass(frozen=True)
class Completion:
    """A prompt, and the text to learn after it; the completion is "" where none was required or given."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Message:
    """One turn of a chat."""

    role: str
    content: str
    further: str = ""
    """What else a template may read of it, as a JSON object: tool_calls, tool_call_id, name, reasoning_content."""
    learnt: bool = True
    """Whether an assistant's turn is to be learnt; one of weight 0 is given alone."""

    def fields(self) -> dict[str, Any]:
        """The message as a template is given it."""
        return {"role": self.role, "content": self.content} | (json.loads(self.further) if self.further else {})


@dataclass(frozen=True)
class Chat:
    """A conversation; what the assistant says is to be learnt."""

    messages: tuple[Message, ...]
    settings: str = ""
    """What the template is given beside the messages, as a JSON object: tools, and the row's `chat_template_kwargs`."""
