"""Tools that a chat may use, and the assistant's calls of them, in the form that chat templates take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from adapterhub_lite.api import DataError

RESERVED = ("messages", "tools", "add_generation_prompt", "continue_final_message", "tokenize", "chat_template")
"""What a template is given otherwise, and no row's `chat_template_kwargs` may."""


def read_calls(value: Any, where: str, *, plain: bool) -> list[dict[str, Any]]:
    """The calls of one message, as [{"type": "function", "function": {"name": ..., "arguments": {...}}}, ...].

    Arguments that are written as JSON, as OpenAI does, become an object, which is what templates write out.

    Args:
        value: One call or a list of them, with or without "function" around it, or the same as JSON.
        where: The place of the message.
        plain: See `read_message`.

    Raises:
        DataError: a call without a name, or whose arguments are no object.
    """
    value = json_value(value, where, "a call")
    calls = []
    for number, call in enumerate(value if isinstance(value, list) else [value], start=1):
        place = f"{where}, call {number}"
        inner = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str) or not inner["name"]:
            raise DataError(f'{place}: must be {{"function": {{"name": ..., "arguments": {{...}}}}}}')
        arguments = inner.get("arguments", inner.get("parameters"))
        arguments = {} if arguments in (None, "") else json_value(arguments, place, "arguments")
        if not isinstance(arguments, dict):
            raise DataError(f"{place}: arguments are of type {type(arguments).__name__}, not an object; write {{...}}")
        outer = {key: call[key] for key in ("id", "index") if call.get(key) is not None}
        function = {"name": inner["name"], "arguments": arguments if plain else without_missing(arguments)}
        calls.append({**outer, "type": "function", "function": function})
    return calls


def read_tools(value: Any, where: str, *, plain: bool) -> list[dict[str, Any]]:
    """The tools of one row: a list of functions with their JSON schemas, or that list as JSON.

    Raises:
        DataError: something else.
    """
    tools = json_value(value, where, "a list of tools")
    if not isinstance(tools, list):
        raise DataError(f'{where}: holds no list of tools; write [{{"type": "function", "function": {{...}}}}]')
    checked = []
    for number, tool in enumerate(tools, start=1):
        inner = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
            raise DataError(f"{where}, tool {number}: has no name; write {{...}} with name, description and parameters")
        whole = {"type": "function", "function": inner} if inner is tool else dict(tool)
        checked.append(whole if plain else without_missing(whole))
    return checked


def read_settings(value: Any, where: str, *, plain: bool) -> dict[str, Any]:
    """What a row gives its template beside messages and tools.

    Raises:
        DataError: no object, or one with a name that stands for something else.
    """
    settings = json_value(value, where, "an object")
    if not isinstance(settings, dict):
        raise DataError(f"{where}: is of type {type(settings).__name__}, not an object of what the template is given")
    wrong = next((name for name in RESERVED if settings.get(name) is not None), None)
    if wrong is not None:
        raise DataError(f"{where}: sets {wrong!r}, which the row has elsewhere or training decides; remove it")
    return settings if plain else dict(without_missing(settings))


def json_value(value: Any, where: str, what: str) -> Any:
    """The value, parsed if it is text.

    Raises:
        DataError: text that is no JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not {what} as JSON ({error}); correct it") from error


def without_missing(value: Any) -> Any:
    """A value without the keys that Arrow puts, with nothing under them, into objects that had none of that name."""
    if isinstance(value, Mapping):
        return {key: without_missing(entry) for key, entry in value.items() if entry is not None}
    return [without_missing(entry) for entry in value] if isinstance(value, list) else value
