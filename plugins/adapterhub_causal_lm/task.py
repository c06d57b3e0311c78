"""Text to continue: plain text, prompt and completion, or chats; the loss is on the text that is to be learnt alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapterhub_causal_lm.answers import Judge
from adapterhub_causal_lm.forgetting import AT_ONCE, GENERAL, forgetting, paragraphs
from adapterhub_causal_lm.items import Chat, Completion, Message, Text
from adapterhub_causal_lm.loss import piecewise_loss, piecewise_losses
from adapterhub_causal_lm.options import CausalLMOptions
from adapterhub_causal_lm.output import Pieces, run
from adapterhub_causal_lm.packing import check_packing
from adapterhub_causal_lm.rows import EncodedRows
from adapterhub_causal_lm.tokens import IGNORED, prompt_ids
from adapterhub_causal_lm.turns import Turns, chat_of_probe, probe_of_chat, takes_turns
from adapterhub_lite.api import (
    LEARNT,
    SAMPLE_TEXTS,
    AdapterCorruptError,
    Base,
    Batch,
    ConfigError,
    DataError,
    Dataset,
    Encoded,
    Example,
    Modality,
    ModelMap,
    NotSupportedError,
    Preprocessing,
    TargetKind,
    Task,
    check_characters,
    checked_length,
    collected,
    pad_tokens,
)

NO_HEAD = "this base has no language-modelling head; causal-lm needs a decoder saved with one"
LONGEST = 1024


class CausalLM(Task):
    """Continue a text with the base's own output layer; only tokens of the text to be learnt count in the loss."""

    name = "causal-lm"
    modality: Modality = "text"
    metric = "loss"
    higher_is_better = False
    generates = True
    target_kind: TargetKind = "classes"

    def __init__(self, labels: Sequence[str], preprocessing: Preprocessing):
        self.labels: tuple[str, ...] = tuple(labels)
        self.preprocessing = preprocessing
        self.needs_one_row = bool(preprocessing.options.get("packing", False))
        self.turns = Turns.from_facts(preprocessing.facts)
        self._rows: EncodedRows | None = None
        self._pieces = Pieces()

    @classmethod
    def settle(cls, base: Base, data: Dataset, options: CausalLMOptions) -> Preprocessing:
        """Settle the length; refuse a base that has no chat template for chats, or cannot take packed examples."""
        if base.map.output is None:
            raise NotSupportedError(NO_HEAD)
        if base.map.sees_padding:
            raise NotSupportedError(
                f"what '{base.reference}' predicts depends on the padding behind a text, so batches cannot be learnt from; use "
                "another base"
            )
        length = checked_length(base, options.max_length, LONGEST)
        if options.packing:
            check_packing(base.model, base.reference, length)
        given = options.model_dump(mode="json", exclude_unset=True)
        facts = Turns().facts() if takes_turns(base, data.form, options.template) else {}
        return Preprocessing(max_length=length, form=data.form, options=given, facts=facts)

    def head(self, model_map: ModelMap) -> nn.Linear | None:
        if model_map.output is None:
            raise NotSupportedError(NO_HEAD)
        return None

    def outputs(self, base: Base) -> int:
        return int(base.model.get_output_embeddings().weight.shape[0])

    def encode(self, dataset: Dataset, base: Base) -> Encoded:
        limit = self.preprocessing.max_length
        self._rows = rows = EncodedRows(base, limit, turns=self.turns is not None)
        examples = collected(rows.examples(dataset))
        if not examples:
            raise DataError(
                f"{dataset.source}: no row has anything left to learn within {limit} tokens; raise --max-length"
            )
        return Encoded(examples, rows.notes(), rows.places())

    def balance(self, data: Encoded) -> Encoded:
        """Note what is learnt, and record how it was told apart."""
        rows = self._rows
        if rows is None:
            return data
        facts = {**self.preprocessing.facts, LEARNT: rows.record(data.examples)}
        if self.turns is not None:
            self.turns = Turns(thinks=rows.thinks)
            facts |= self.turns.facts()
        self.preprocessing = replace(self.preprocessing, facts=facts)
        return replace(data, notes=(*rows.told(self.preprocessing.form, data.examples), *data.notes))

    def token_labels(self, example: Example) -> tuple[list[int], list[str | None]]:
        return example.inputs, [None if label == IGNORED else "" for label in example.target]

    def collate(self, examples: Sequence[Example], base: Base) -> Batch:
        batch = pad_tokens([example.inputs for example in examples], base.tokenizer.pad_token_id)
        targets = torch.full(batch["input_ids"].shape, IGNORED)
        for i, example in enumerate(examples):
            targets[i, : len(example.target)] = torch.tensor(example.target)
        batch["targets"] = targets
        return batch

    def features(self, base: Base, batch: Batch) -> tuple[Tensor, Tensor | None]:
        ran = run(base, batch, 1)  # what comes behind the features is not asked for
        return ran.hidden.float(), ran.targets

    def logits(self, base: Base, head: nn.Linear | None, batch: Batch) -> tuple[Tensor, Tensor | None]:
        ran = run(base, batch, None)
        return ran.logits.float(), ran.targets

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(logits, targets, reduction="none")

    def loss(self, base: Base, head: nn.Linear | None, batch: Batch, weight: float) -> Tensor:
        if not self._in_pieces(base, batch):
            return super().loss(base, head, batch, weight)
        ran = run(base, batch, 1)
        return piecewise_loss(ran.logits_of, ran.hidden, ran.targets, self.outputs(base), weight)

    def target_losses(self, base: Base, head: nn.Linear | None, batch: Batch) -> Tensor:
        if not self._in_pieces(base, batch):
            ran = run(base, batch, None)
            return self.losses(ran.logits.float(), ran.targets)
        ran = run(base, batch, 1)
        return piecewise_losses(ran.logits_of, ran.hidden, ran.targets, self.outputs(base))

    def prompt_ids(self, prompt: str | Text | Completion | Chat, base: Base) -> list[int]:
        """The ids of a prompt. An adapter trained through the chat template takes a text as a user's turn.

        Args:
            prompt: The text, without any template, or an item of a dataset of this task; its own completion is not used.
            base: Whose tokenizer.

        Raises:
            ConfigError: a prompt that is neither.
        """
        if not isinstance(prompt, (str, Text, Completion, Chat)):
            raise ConfigError(f"the prompt is a {type(prompt).__name__}; give a text, or an item of a dataset")
        if isinstance(prompt, str):
            check_characters(prompt, "the prompt")
        thinks = self.turns.thinks if self.turns is not None else None
        return prompt_ids(prompt, base.tokenizer, chat=self._takes_turns, thinks=thinks)

    @property
    def _takes_turns(self) -> bool:
        # An adapter of an earlier version has no facts of turns, and its chats were opened as the template does by itself.
        return self.turns is not None or self.preprocessing.form == "chat"

    def end_ids(self, base: Base) -> list[int]:
        """The token that ends an assistant's turn in what is learnt, where that is one of the tokenizer's special tokens."""
        if not self._takes_turns:
            return []
        try:
            ((_, labels),) = EncodedRows(base, None, turns=True).encode(Completion(*SAMPLE_TEXTS[:2]))
        except (DataError, NotSupportedError):  # a template that could be trained with in an earlier version
            return []
        last = next((label for label in reversed(labels) if label != IGNORED), IGNORED)
        return [last] if last in base.tokenizer.all_special_ids else []

    def judge(self, data: Dataset, extract: str | None, score: Callable[[str, str], Any] | None) -> Judge:
        """See `answers.Judge`."""
        return Judge(data, extract, score)

    def forgetting(
        self,
        base: Base,
        adapted: Callable[[Batch], tuple[Tensor, Tensor | None]],
        bare: Callable[[Batch], Tensor],
        text: str | None,
    ) -> dict[str, float]:
        """See `forgetting.forgetting`; without a text of the user's, of what is learnt as chats alone, and on a text of ours."""
        if text is None and not self._takes_turns:
            return {}
        given = text if text is not None else GENERAL.read_text(encoding="utf-8")
        limit = min(AT_ONCE, checked_length(base, None, AT_ONCE))
        return forgetting(self, base, adapted, bare, paragraphs(given, base, limit))

    def predictions(self, logits: Tensor, data: Encoded) -> list[Any]:
        raise NotSupportedError("a language model has no labels to predict; use generate")

    def samples(self) -> list[Any]:
        form = self.preprocessing.form
        if form == "chat":
            return [Chat((Message("user", text), Message("assistant", text))) for text in SAMPLE_TEXTS]
        return [Completion(text, text) if form == "completion" else Text(text) for text in SAMPLE_TEXTS]

    def probe(self, item: Any, number: int) -> Any:
        if isinstance(item, Chat):
            return probe_of_chat(item)
        if isinstance(item, Completion):
            return {"prompt": item.prompt, "completion": item.completion}
        return {"text": item.text} if isinstance(item, Text) else None

    def item_of_probe(self, value: Any) -> Any:
        match value:
            case {"text": str(text), **rest} if not rest:
                return Text(text)
            case {"prompt": str(prompt), "completion": str(completion), **rest} if not rest:
                return Completion(prompt, completion)
            case {"messages": _}:
                return chat_of_probe(value)
        raise AdapterCorruptError(
            f"adapterhub.json: probe input not understood: {str(value)[:80]!r}; save the adapter again"
        )

    def metrics(
        self, logits: Tensor, targets: Tensor, loss: float, rows: Sequence[int] | None = None
    ) -> dict[str, float]:
        # exp overflows a double at 709; a loss like that is a broken model, whose perplexity is as good as infinite.
        return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}

    def _in_pieces(self, base: Base, batch: Batch) -> bool:
        """Whether the logits of a batch may be computed a few positions at a time: not for a task with another loss."""
        own = all(getattr(type(self), name) is getattr(CausalLM, name) for name in ("logits", "losses", "weights"))
        return own and self._pieces.proven(base, batch)
