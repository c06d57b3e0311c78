"""What a row holds: a text, a prompt with its completion, or a chat."""

from __future__ import annotations

from dataclasses import dataclass


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


@dataclass(frozen=True)
class Chat:
    """A conversation; what the assistant says is to be learnt."""

    messages: tuple[Message, ...]
