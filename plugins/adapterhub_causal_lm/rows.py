"""Rows of texts, completions and chats as examples, with what is to be told about them."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from adapterhub_causal_lm.chat import ChatTemplate
from adapterhub_causal_lm.items import Chat, Completion, Text
from adapterhub_causal_lm.tokens import IGNORED, Labelled, as_chat, encode_plain, encode_written
from adapterhub_lite.api import Base, DataError, Dataset, Example, NotSupportedError, place

MARKS, WHOLE, BY_TURN, PLAIN = "marks", "whole render", "turn by turn", "plain"
"""How it is known what is to be learnt: from the template's own marks, from what it writes of the conversation as a whole, or
of it up to each turn, or because there is no template."""

SHOWN, MOST_PARTS = 160, 6  # characters of a part, and parts, of the example that is shown in a line


class EncodedRows:
    """The rows of one data set on their way to examples.

    Args:
        base: Whose tokenizer, and whose tokens end an answer.
        limit: Tokens that an example is cut to.
        turns: Prompts and completions are turns of a conversation.
    """

    def __init__(self, base: Base, limit: int | None, *, turns: bool):
        self.base, self.limit, self.turns = base, limit, turns
        self.thinks = False
        self._stops = stop_tokens(base)
        self._template: tuple[str, ChatTemplate] | None = None
        self._places = array("q")
        self._rows = self._split = self._marked = self._unwritten = self._plain = self._glued = 0
        self._cut: set[int] = set()

    def examples(self, dataset: Dataset) -> Iterator[Example]:
        """The examples of all rows that have something to learn.

        Raises:
            DataError, NotSupportedError: a row of which it cannot be proven what is to be learnt; by its number.
        """
        for row, item in enumerate(dataset.inputs):
            self._rows += 1
            try:
                encoded = self.encode(item)
            except (DataError, NotSupportedError) as error:
                where = dataset.table.where(row) if dataset.table is not None else place(dataset.source, row)
                raise type(error)(f"{where}: {error}") from error
            for ids, labels in encoded:
                if self.limit and len(ids) > self.limit:
                    ids, labels = ids[: self.limit], labels[: self.limit]
                    self._cut.add(row)
                weight = sum(label != IGNORED for label in labels[1:])
                if weight:
                    self._places.append(row)
                    yield Example(ids, labels, len(ids), weight, rows=weight)

    def encode(self, item: Text | Completion | Chat) -> list[Labelled]:
        """The examples of one row, not cut: one, unless the template rewrites the earlier turns of a conversation."""
        tokenizer = self.base.tokenizer
        if not isinstance(item, Chat) and not (self.turns and isinstance(item, Completion)):
            self._plain += 1
            if isinstance(item, Completion):
                self._glued += not (item.prompt[-1:].isspace() or item.completion[:1].isspace())
            return [encode_plain(item, tokenizer)]
        chat = item if isinstance(item, Chat) else as_chat(item)
        if self._template is None or self._template[0] != chat.settings:
            self._template = (chat.settings, ChatTemplate(tokenizer, chat.settings))
        written = self._template[1].write(chat, self._stops)
        self.thinks = self.thinks or written.thinks
        self._unwritten += written.unwritten
        self._marked += written.marked
        self._split += len(written.texts) > 1
        return [encode_written(text, tokenizer) for text in written.texts]

    def places(self) -> tuple[int, ...] | None:
        """The row of each example; None where example i is of row i."""
        return None if self._places == array("q", range(self._rows)) else tuple(self._places)

    def notes(self) -> tuple[str, ...]:
        """What was cut, left out, or joined without anything between."""
        of, notes = f"of {self._rows} rows", []
        if self._cut:
            notes.append(f"{len(self._cut)} {of} are longer than {self.limit} tokens and were cut")
        dropped = self._rows - len(set(self._places))
        if dropped:
            notes.append(f"{dropped} {of} have nothing to learn within {self.limit} tokens and were left out")
        if self._glued:
            notes.append(
                f"in {self._glued} {of} nothing stands between prompt and completion, no blank and no line break; end the "
                "prompts with one if the completion is not to go on within a word"
            )
        if self._unwritten:
            notes.append(f"the chat template leaves out the thinking of {self._unwritten} answers, which is not learnt")
        return tuple(notes)

    def policies(self) -> tuple[str, ...]:
        """How it is known what is to be learnt of these rows."""
        whole = self._rows - self._plain - self._split - self._marked
        counts = {MARKS: self._marked, WHOLE: whole, BY_TURN: self._split, PLAIN: self._plain}
        return tuple(policy for policy, count in counts.items() if count > 0)

    def told(self, form: str | None, examples: Sequence[Example]) -> tuple[str, ...]:
        """Before training: what the first example is, how much is learnt, and how rows are written where that may surprise."""
        learnt = sum(example.rows for example in examples)
        given = sum(example.length for example in examples) - learnt
        dropped = self._rows - len(set(self._places))
        notes = [
            f"the first example, what is learnt in brackets: {self._in_a_line(examples[0])}",
            f"{learnt:,} tokens are learnt and {given:,} given, in {len(examples):,} examples of {self._rows:,} rows; "
            f"{len(self._cut):,} rows are cut, {dropped:,} left out",
        ]
        if self.turns and form == "completion":
            notes.append(
                "prompts and completions are written by the base's chat template, as a user's and the assistant's turn; "
                "--task-set template=none joins them as they are"
            )
        if self._split:
            notes.append(
                f"the chat template rewrites earlier turns, so {self._split} of {self._rows} rows are learnt turn by turn: an "
                f"example for each answer as the model is asked for it ({len(self._places)} examples in all)"
            )
        return tuple(notes)

    def _in_a_line(self, example: Example) -> str:
        """An example in one line, long parts of it shortened."""
        parts = []
        for learnt, run in groupby(zip(example.inputs, example.target, strict=True), lambda pair: pair[1] != IGNORED):
            text = repr(self.base.tokenizer.decode([token for token, _ in run]))[1:-1]
            text = text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} ... {text[-SHOWN // 2 :]}"
            parts.append(f"[{text}]" if learnt else text)
        return "".join(parts if len(parts) <= MOST_PARTS else [*parts[:MOST_PARTS], " ..."])

    def record(self, examples: Iterable[Example]) -> dict[str, Any]:
        """What the manifest says of what was learnt: how it was told apart, and SHA-256 of all ids and labels."""
        total = hashlib.sha256()
        for example in examples:
            for numbers in (example.inputs, example.target):
                total.update(array("q", [len(numbers), *numbers]).tobytes())
        return {"policy": ", ".join(self.policies()), "digest": total.hexdigest()}


def stop_tokens(base: Base) -> Sequence[str]:
    """The tokens at which the generation of a base stops, as text."""
    config = getattr(base.model, "generation_config", None)
    ids = getattr(config, "eos_token_id", None)
    ids = ids if isinstance(ids, list) else [] if ids is None else [ids]
    names = base.tokenizer.convert_ids_to_tokens([token for token in ids if 0 <= token < len(base.tokenizer)])
    return tuple(name for name in names if name)
