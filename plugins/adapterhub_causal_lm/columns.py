"""Which column of a table is what for a language model, and the layouts that are no texts to continue."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from adapterhub_causal_lm.options import ROLES, TASK
from adapterhub_lite.api import ConfigError, DataError, Table, check_roles, columns_shown, find_column, guess_column

PAIRS = (("prompt", "completion"), ("question", "answer"), ("instruction", "output"), ("instruction", "response"))
CHATS = ("conversations", "conversation")
"""Names of columns of chats beside `messages`; taken only where they hold lists, for they may as well hold texts."""
BESIDE_CHATS = {
    "system": ("system",),
    "tools": ("tools", "functions"),
    "chat_template_kwargs": ("chat_template_kwargs",),
}
EXTRA = {"instruction": ("input", "context"), "question": ("context",)}
"""What is the second part of a prompt, by the name of its first."""
WRITTEN = re.compile(r"""\s*\[\s*\{\s*["'](role|from|content|value)["']""")
"""How a list of messages begins that is written as text, as in a CSV."""
TEXTS = ("text", "content", "document", "code")


def choose_columns(table: Table, given: Mapping[str, str], require_labels: bool) -> dict[str, str]:
    """The columns to read, by role.

    Those are {messages, system?, tools?, chat_template_kwargs?}, {prompt, input?, completion, system?, history?, tools?,
    chat_template_kwargs?} or {text}, and `group` with any of them.

    Raises:
        ConfigError: roles that do not go together.
        DataError: a column that is not there, columns that are none of these, and layouts that need another task.
    """
    check_roles(given, ROLES, TASK)
    if "group" in given:
        group = find_column(table, given["group"], "group")
        rest = {role: name for role, name in given.items() if role != "group"}
        return {**choose_columns(table, rest, require_labels), "group": group}
    used = {role: find_column(table, name, role) for role, name in given.items()}
    if used:
        _check_together(used, require_labels)
        return used | (_beside(table, used) if "messages" in used else {})
    _refuse_layouts(table)
    messages = guess_column(table, ("messages",)) or next(
        (name for name in table.columns if name.casefold() in CHATS and holds_messages(table, name)), None
    )
    if messages is not None:
        return {"messages": messages, **_beside(table, {"messages": messages})}
    for prompt, completion in PAIRS:
        first, second = guess_column(table, (prompt,)), guess_column(table, (completion,))
        if first is not None and (second is not None or not require_labels):
            pair = {
                "prompt": first,
                "input": guess_column(table, EXTRA.get(prompt, ())),
                "completion": second,
                "history": guess_column(table, ("history",)),
            }
            used = {role: name for role, name in pair.items() if name is not None}
            return used | _beside(table, used)
    text = guess_column(table, TEXTS)
    if text is not None:
        return {"text": text}
    raise DataError(
        f"{table.source}: has no columns for a language model (messages, or prompt and completion, or text); "
        f"name them with --prompt-column and --completion-column, or --text-column (columns={{'prompt': NAME, ...}} in "
        f"Python): {columns_shown(table)}"
    )


def holds_messages(table: Table, column: str) -> bool:
    """Whether a column's first value that is there is a list, or one of messages written as text."""
    first: Any = next((value for value in table.iterate(column) if value not in (None, "")), None)
    return isinstance(first, list) or (isinstance(first, str) and WRITTEN.match(first) is not None)


def _check_together(used: Mapping[str, str], require_labels: bool) -> None:
    alone = {"messages", "text"} & used.keys()
    beside = set(BESIDE_CHATS) if "messages" in alone else set()
    if alone and len(used.keys() - beside) > 1:
        raise ConfigError(
            f"columns: {', '.join(used)} do not go together; give messages, or text, or prompt and completion"
        )
    if not alone and "prompt" not in used:
        raise ConfigError("columns: give 'prompt' as well, the column to be completed")
    if not alone and "completion" not in used and require_labels:
        raise ConfigError("columns: give 'completion' as well, the column to learn")


def _beside(table: Table, used: Mapping[str, str]) -> dict[str, str]:
    guessed = {
        role: guess_column(table, names, tuple(used.values()))
        for role, names in BESIDE_CHATS.items()
        if role not in used
    }
    return {role: name for role, name in guessed.items() if name is not None}


def _refuse_layouts(table: Table) -> None:
    """Refuse what looks like texts to continue and would be learnt wrongly.

    Raises:
        DataError: trees of messages, preference pairs, or rated answers; says what can be done with each.
    """
    chosen, rejected = guess_column(table, ("chosen",)), guess_column(table, ("rejected",))
    if chosen is not None and rejected is not None:
        raise DataError(
            f"{table.source}: holds preference pairs (columns {chosen!r} and {rejected!r}), for which there is no task yet; "
            f"to learn the chosen answers alone, name them: --column messages={chosen} where they are whole chats, "
            f"--prompt-column NAME --completion-column {chosen} where they are answers"
        )
    tree = guess_column(table, ("message_tree_id",)), guess_column(table, ("parent_id",))
    message = guess_column(table, ("prompt", "message_id"))
    if message is not None and any(tree):
        raise DataError(
            f"{table.source}: holds trees of messages (column {(tree[1] or tree[0])!r}), in which a row is no conversation; "
            "flatten them: from each message without replies follow the parents to the root, and write the path as one "
            'row {"messages": [{"role": "prompter", "content": ...}, {"role": "assistant", "content": ...}, ...]}; '
            "docs/data-formats.md has the lines of Python that do"
        )
    rating = guess_column(table, ("label",))
    pair = guess_column(table, ("prompt",)), guess_column(table, ("completion",))
    if rating is not None and None not in pair and isinstance(table.values(rating, 0, 1)[0], bool):
        raise DataError(
            f"{table.source}: holds answers rated good or bad (column {rating!r}), for which there is no task yet; keep the "
            "good ones, or name --prompt-column and --completion-column to learn all of them"
        )
