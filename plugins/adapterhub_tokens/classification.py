"""Words in, a tag for each of them out: entities, parts of speech.

What is known of a word is read off its first sub-token, in training and in prediction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from adapterhub_lite.api import (
    LONGEST_TEXT,
    SAMPLE_TEXTS,
    AdapterCorruptError,
    Base,
    Batch,
    ConfigError,
    DataError,
    Dataset,
    Encoded,
    Example,
    HeadTask,
    Modality,
    NotSupportedError,
    Preprocessing,
    TagDetail,
    TargetKind,
    bootstrap,
    check_characters,
    checked_length,
    counted,
    hidden_states,
    macro_f1,
    of_classes,
    pad_tokens,
    scores_of,
    targets_of,
)
from adapterhub_tokens.entities import Span, are_spans, f1, kinds_of, spans
from adapterhub_tokens.options import TokenClassificationOptions
from adapterhub_tokens.outputs import Entity, TagsPrediction


class Words(NamedTuple):
    """One encoded input."""

    ids: list[int]
    starts: list[int]
    """The place of the first token of each word that has one, rising."""
    numbers: list[int]
    """The number of the word that each of `starts` belongs to, counted from 0."""
    words: list[str]


class TokenClassification(HeadTask):
    """Predicts a tag for each word. A sentence has as many rows of logits as it has words with a token.

    Words are joined by blanks and tokenized as running text, which is what a base has seen; a token belongs to the word
    whose characters it holds. Words beyond the longest input, and words of which the tokenizer makes nothing, are not
    learnt, not scored, and get None for a tag.
    """

    name = "token-classification"
    modality: Modality = "text"
    auto_class = "AutoModelForTokenClassification"
    higher_is_better = True
    target_kind: TargetKind = "classes"

    def __init__(self, labels: Sequence[str], preprocessing: Preprocessing):
        super().__init__(labels, preprocessing)
        self.marks_spans = are_spans(self.labels)
        self.metric = "f1" if self.marks_spans else "macro_f1"

    @classmethod
    def settle(cls, base: Base, data: Dataset, options: TokenClassificationOptions) -> Preprocessing:
        """See `TaskKind.settle`."""
        if not base.tokenizer.is_fast:
            raise NotSupportedError(
                f"'{base.reference}' has a tokenizer that cannot say which token belongs to which word "
                f"({type(base.tokenizer).__name__}); token-classification needs a base with a fast tokenizer"
            )
        length = checked_length(base, options.max_length, LONGEST_TEXT)
        return Preprocessing(max_length=length, options=options.model_dump(mode="json", exclude_unset=True))

    def encode(self, dataset: Dataset, base: Base) -> Encoded:
        """Tokenize every sentence.

        Raises:
            DataError: labelled data of which no word is left.
        """
        limit, tokenizer = self.preprocessing.max_length, base.tokenizer
        joined = [" ".join(words) for words in dataset.inputs]
        encoded = tokenizer(joined, return_offsets_mapping=True, truncation=False, verbose=False)
        longer = [limit is not None and len(ids) > limit for ids in encoded["input_ids"]]
        if any(longer):
            encoded = tokenizer(joined, return_offsets_mapping=True, truncation=True, max_length=limit)
        examples, beyond, nothing = [], 0, 0
        for row, (words, target) in enumerate(zip(dataset.inputs, targets_of(dataset), strict=True)):
            ids = encoded["input_ids"][row] or [tokenizer.pad_token_id or 0]
            starts, numbers = first_tokens(words, encoded["offset_mapping"][row])
            last = numbers[-1] if numbers else -1
            lost = len(words) - 1 - last if longer[row] else 0
            beyond, nothing = beyond + lost, nothing + len(words) - len(numbers) - lost
            known = [target[number] for number in numbers] if target is not None else None
            inputs = Words(ids, starts, numbers, list(words))
            examples.append(Example(inputs, known, len(ids), float(len(numbers)), rows=len(numbers)))
        if dataset.targets is not None and not any(example.rows for example in examples):
            raise DataError(f"{dataset.source}: no word has a token within {limit} tokens; raise --max-length")
        notes = []
        if any(longer):
            notes.append(
                f"{sum(longer)} of {len(examples)} texts are longer than {limit} tokens; the "
                f"{counted(beyond, 'word')} beyond are not learnt, not scored and get no tag"
            )
        if nothing:
            notes.append(
                f"{counted(nothing, 'word')} of which the tokenizer makes nothing are not scored and get no tag"
            )
        return Encoded(examples, tuple(notes))

    def token_labels(self, example: Example) -> tuple[list[int], list[str | None]]:
        ids = list(example.inputs.ids)
        labels: list[str | None] = [None] * len(ids)
        for start, target in zip(example.inputs.starts, example.target or (), strict=False):
            labels[start] = self.labels[target]
        return ids, labels

    def balance(self, data: Encoded) -> Encoded:
        """Leave sentences without any word to learn from out of training."""
        kept = [row for row, example in enumerate(data.examples) if example.rows]
        if len(kept) == len(data.examples):
            return data
        return replace(data, examples=[data.examples[row] for row in kept], rows=tuple(kept))

    def inputs(self, examples: Sequence[Example], base: Base) -> dict[str, Tensor]:
        batch = pad_tokens([example.inputs.ids for example in examples], base.tokenizer.pad_token_id)
        starts = torch.zeros(batch["input_ids"].shape, dtype=torch.bool)
        for row, example in enumerate(examples):
            starts[row, example.inputs.starts] = True
        return {**batch, "starts": starts}

    def targets(self, examples: Sequence[Example]) -> Tensor:
        return torch.tensor([tag for example in examples for tag in example.target], dtype=torch.long)

    def features(self, base: Base, batch: Batch) -> tuple[Tensor, Tensor | None]:
        hidden = hidden_states(base, batch)  # (batch, tokens, hidden_size)
        return hidden[batch["starts"]].float(), batch.get("targets")

    def class_logits(self, model: Any, batch: Batch) -> Tensor:
        inputs = {name: value for name, value in batch.items() if name not in ("starts", "targets")}
        logits: Tensor = model(**inputs).logits  # (batch, tokens, tags)
        return logits[batch["starts"]]

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(logits, targets, reduction="none")

    def metrics(
        self, logits: Tensor, targets: Tensor, loss: float, rows: Sequence[int] | None = None
    ) -> dict[str, float]:
        """Share of words with the right tag; and precision, recall and F1 of whole spans, or else the tags' macro-F1."""
        predicted = logits.argmax(dim=-1)
        accuracy = float((predicted == targets).double().mean())
        if not self.marks_spans:
            score = macro_f1(predicted, targets, len(self.labels))
            return {"macro_f1": score, "accuracy": accuracy, "loss": loss}
        precision, recall, score = f1(*self._counts(predicted, targets, rows).sum(dim=0).tolist()[:3])
        return {"f1": score, "precision": precision, "recall": recall, "accuracy": accuracy, "loss": loss}

    def detail(self, logits: Tensor, targets: Tensor, rows: Sequence[int] | None, known: int) -> TagDetail:
        """Precision, recall and F1 of whole spans by kind, or else of each tag."""
        predicted = logits.argmax(dim=-1)
        if not self.marks_spans:
            return TagDetail(of_classes(targets.numpy(), predicted.numpy(), self.labels, known))
        kinds, known_kinds = kinds_of(self.labels), len(kinds_of(self.labels[:known]))
        counts = np.zeros((3, len(kinds)), dtype=np.int64)  # found rightly, true, predicted
        for right, true, said in self._spans(predicted, targets, rows):
            for place, found in enumerate((right, true, said)):
                for span in found:
                    counts[place, kinds.index(span.kind)] += 1
        return TagDetail(scores_of(counts[0], counts[1], counts[2], kinds, known_kinds))

    def intervals(
        self,
        logits: Tensor,
        targets: Tensor,
        rows: Sequence[int] | None = None,
        groups: Sequence[int] | None = None,
    ) -> dict[str, tuple[float, float]]:
        """Bootstrap intervals. Whole sentences are drawn, because the words of a sentence are not independent."""
        predicted = logits.argmax(dim=-1)
        counts = self._counts(predicted, targets, rows)

        def accuracy(drawn: Tensor) -> float:
            right, words = counts[drawn][:, 3:].sum(dim=0).tolist()
            return right / words if words else 0.0

        intervals = {"accuracy": bootstrap(len(counts), accuracy, groups)}
        if self.marks_spans:
            intervals["f1"] = bootstrap(
                len(counts), lambda drawn: f1(*counts[drawn].sum(dim=0).tolist()[:3])[2], groups
            )
        return intervals

    def predictions(self, logits: Tensor, data: Encoded) -> list[TagsPrediction]:
        probabilities, best = functional.softmax(logits, dim=-1).max(dim=-1)
        predictions, start = [], 0
        for example in data.examples:
            inputs, stop = example.inputs, start + example.rows
            tags: list[str | None] = [None] * len(inputs.words)
            certain: list[float | None] = [None] * len(inputs.words)
            for number, index, p in zip(
                inputs.numbers, best[start:stop].tolist(), probabilities[start:stop].tolist(), strict=True
            ):
                tags[number], certain[number] = self.labels[index], p
            entities = None
            if self.marks_spans:
                entities = tuple(Entity(*span, " ".join(inputs.words[span.start : span.end])) for span in spans(tags))
            predictions.append(TagsPrediction(tuple(tags), tuple(certain), entities))
            start = stop
        return predictions

    def item(self, value: Any, row: int) -> Any:
        words = list(value) if isinstance(value, (list, tuple)) else []
        if not words or not all(isinstance(word, str) and word.strip() for word in words):
            raise ConfigError(f"input {row + 1} is {value!r}; predict takes lists of words, such as text.split()")
        check_characters(" ".join(words), f"input {row + 1}")
        return words

    def samples(self) -> list[Any]:
        return [sample.split() for sample in SAMPLE_TEXTS]

    def probe(self, item: Any, number: int) -> Any:
        return {"words": list(item)}

    def item_of_probe(self, value: Any) -> Any:
        match value:
            case {"words": [*words], **rest} if not rest and words and all(isinstance(word, str) for word in words):
                return words
        raise AdapterCorruptError(
            f"adapterhub.json: probe input not understood: {str(value)[:80]!r}; save the adapter again"
        )

    def _counts(self, predicted: Tensor, targets: Tensor, rows: Sequence[int] | None) -> Tensor:
        """For each sentence: spans found rightly, spans predicted, true spans, words tagged rightly, words. (n, 5)"""
        lengths = rows if rows is not None else [len(targets)]
        right = [int(part.sum()) for part in (predicted == targets).split(list(lengths))]
        found = self._spans(predicted, targets, rows) if self.marks_spans else [(set[Span](),) * 3 for _ in lengths]
        counts = [
            [len(hits), len(said), len(true), words, length]
            for (hits, true, said), words, length in zip(found, right, lengths, strict=True)
        ]
        return torch.tensor(counts, dtype=torch.float64)

    def _spans(
        self, predicted: Tensor, targets: Tensor, rows: Sequence[int] | None
    ) -> Iterator[tuple[set[Span], set[Span], set[Span]]]:
        """For each sentence: spans that are found rightly, true ones and predicted ones."""
        start, said, true = 0, predicted.tolist(), targets.tolist()
        for length in rows if rows is not None else [len(true)]:
            named = [[self.labels[tag] for tag in tags[start : start + length]] for tags in (true, said)]
            true_spans, said_spans = (set(spans(tags)) for tags in named)
            yield true_spans & said_spans, true_spans, said_spans
            start += length


def first_tokens(words: Sequence[str], offsets: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Find the first token of each word, in a text made by joining the words with blanks.

    Args:
        words: At least one character each.
        offsets: First character and the one after the last, for each token; (0, 0) for a special one.

    Returns:
        The places of these tokens, and the numbers of the words; those without a token of their own are left out.
    """
    starts, numbers = [], []
    token, begin = 0, 0
    for number, word in enumerate(words):
        end = begin + len(word)
        while token < len(offsets) and (offsets[token][1] <= begin or offsets[token][0] == offsets[token][1]):
            token += 1
        if token < len(offsets) and offsets[token][0] < end:
            starts.append(token)
            numbers.append(number)
            token += 1
        begin = end + 1
    return starts, numbers
