"""How texts and pairs of texts become tokens and pooled features.

The functions whose first argument is a task are methods of both tasks.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

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
    NotSupportedError,
    Preprocessing,
    Task,
    check_characters,
    checked_length,
    collected,
    hidden_states,
    pad_tokens,
    pool,
    targets_of,
)
from adapterhub_text.columns import Pair
from adapterhub_text.declared import declared_pooling
from adapterhub_text.options import PooledText

TOKENIZED_AT_ONCE = 1024
PAIRS = "pairs"
"""The fact that an adapter was trained on pairs of texts."""
NORMALIZE = "normalize"
"""The fact that its features are brought to one length."""
PROMPT = "prompt"
"""What goes before every text."""
NOT_POOLED = "not_pooled"
"""How many tokens at the beginning, the prompt's, are not pooled."""
Item = TypeVar("Item")


def settle_text(base: Base, data: Dataset, options: PooledText) -> Preprocessing:
    """Length, pooling, scaling and prompt of a task that pools a text.

    Raises:
        NotSupportedError: the base's files declare a pooling that is not done here, and no other was asked for.
    """
    declared = declared_pooling(base.folder)
    if declared.not_done is not None and options.pooling is None:
        raise NotSupportedError(
            f"'{base.reference}' was made for sentence-transformers with {declared.not_done}, which is not done here; "
            "name what is to be done with the features of the model itself, as with --set pooling=mean"
        )
    normalize = declared.normalized if options.normalize is None else options.normalize
    pairs = isinstance(next(iter(data.inputs), None), Pair)
    prompt = (declared.prompt if not pairs else "") if options.prompt is None else options.prompt
    facts: dict[str, Any] = {PAIRS: True} if pairs else {}
    facts |= {NORMALIZE: True} if normalize else {}
    if prompt:
        facts |= {PROMPT: prompt} | ({} if declared.pools_prompt else {NOT_POOLED: _tokens_before(prompt, base)})
    return Preprocessing(
        max_length=checked_length(base, options.max_length, LONGEST_TEXT),
        pooling=options.pooling or declared.pooling or base.map.pooling,
        form=data.form,
        options=options.model_dump(mode="json", exclude_unset=True),
        facts=facts,
    )


def encode_texts(dataset: Dataset, base: Base, preprocessing: Preprocessing, weight: float = 1.0) -> Encoded:
    """Tokenize the texts or pairs of texts of a dataset.

    Args:
        dataset: Checked inputs, with targets or without.
        base: Whose tokenizer.
        preprocessing: Says how long an input may be, and whether it is a pair.
        weight: What the targets of one input count together.

    Raises:
        DataError: texts where the adapter was trained on pairs, or the other way round.
    """
    trained, given = bool(preprocessing.facts.get(PAIRS)), isinstance(next(iter(dataset.inputs), None), Pair)
    if len(dataset) and trained != given:
        advice = "name the second text with --column pair=NAME" if trained else "give one text a row, without pair="
        raise DataError(f"{dataset.source}: this adapter was trained on {_kind(trained)}, not {_kind(given)}; {advice}")
    limit = preprocessing.max_length
    cut = 0

    def made() -> Iterator[Example]:
        nonlocal cut
        # Some at a time: what a tokenizer returns takes many times the room of its ids.
        for rows in batched(zip(dataset.inputs, targets_of(dataset), strict=True), TOKENIZED_AT_ONCE):
            items, longer = tokenize([item for item, _ in rows], base, limit, preprocessing.facts.get(PROMPT, ""))
            cut += longer
            for item, (_, target) in zip(items, rows, strict=True):
                yield Example(item, target, count(item), weight)

    examples = collected(made())
    notes = []
    if cut:
        what = "pairs" if given else "texts"
        notes.append(f"{cut} of {len(examples)} {what} are longer than {limit} tokens and were cut")
    special = base.tokenizer.num_special_tokens_to_add
    if given and special(pair=True) <= special(pair=False):
        notes.append("this base's tokenizer puts nothing between the two texts of a pair")
    return Encoded(examples, tuple(notes))


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """As `itertools.batched` of Python 3.12."""
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch


def _kind(pairs: bool) -> str:
    return "pairs of texts" if pairs else "single texts"


Tokens = list[int] | tuple[list[int], list[int]]
"""The ids of a text; of a pair, for a base with token types, the ids and the type (first or second text) of each token."""


def _tokens_before(prompt: str, base: Base) -> int:
    """How many tokens of a text with a prompt come before the text: those of the prompt, without what closes it."""
    ids = base.tokenizer(prompt)["input_ids"]
    return len(ids) - (ids[-1] in base.tokenizer.all_special_ids)


def tokenize(items: Sequence[str | Pair], base: Base, limit: int | None, prompt: str = "") -> tuple[list[Tokens], int]:
    """Tokenize texts or pairs of texts, a prompt before each.

    Returns:
        The tokens of each item; and how many items were longer than the limit and cut by the tokenizer, which keeps the
        closing special token in its place.
    """
    pairs = [item for item in items if isinstance(item, Pair)]
    first = [prompt + (item.first if isinstance(item, Pair) else item) for item in items]
    second = [item.second for item in pairs] if pairs else None
    encoded = base.tokenizer(first, second, truncation=False, verbose=False)
    cut = sum(len(ids) > limit for ids in encoded["input_ids"]) if limit else 0
    if cut:
        encoded = base.tokenizer(first, second, truncation=True, max_length=limit)
    if pairs and "token_type_ids" in encoded and _tells_segments_apart(base):
        return list(zip(encoded["input_ids"], encoded["token_type_ids"], strict=True)), cut
    return encoded["input_ids"], cut


def _tells_segments_apart(base: Base) -> bool:
    """Whether a base takes the type of a token, first or second text; RoBERTa has a row for the first alone."""
    rows: int = getattr(base.model.config.get_text_config(), "type_vocab_size", 2)
    return rows > 1 and "token_type_ids" in inspect.signature(base.model.forward).parameters


def count(tokens: Tokens) -> int:
    """How many tokens there are."""
    return len(tokens[0]) if isinstance(tokens, tuple) else len(tokens)


def inputs(task: Task, examples: Sequence[Example], base: Base) -> dict[str, Tensor]:
    """Pad tokenized texts or pairs on the right: (batch, tokens) int64 each."""
    items: list[Tokens] = [example.inputs for example in examples]
    batch = pad_tokens([item[0] if isinstance(item, tuple) else item for item in items], base.tokenizer.pad_token_id)
    types = [item[1] for item in items if isinstance(item, tuple)]
    return {**batch, "token_type_ids": pad_tokens(types, 0)["input_ids"]} if types else batch


def features(task: Task, base: Base, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Pooled features in fp32, (batch, hidden_size), and the targets, where there are any.

    Normalised features have length sqrt(hidden_size), so that their entries are near 1.
    """
    how = task.preprocessing.pooling or base.map.pooling
    mask = batch["attention_mask"]
    if not_pooled := task.preprocessing.facts.get(NOT_POOLED):
        # Of a text that was cut so short that nothing but the prompt is left, its last token is pooled.
        places = mask.cumsum(dim=1)
        mask = mask * ((places > not_pooled) | (places == places[:, -1:]))
    vectors = pool(hidden_states(base, batch), mask, how)
    if task.preprocessing.facts.get(NORMALIZE):
        vectors = functional.normalize(vectors, dim=-1) * vectors.shape[-1] ** 0.5
    return vectors, batch.get("targets")


def item(task: Task, value: Any, row: int) -> str | Pair:
    """Check a text or a pair of texts given in Python.

    Raises:
        ConfigError: something else, an empty text, or a text where the adapter was trained on pairs.
    """
    if isinstance(value, (tuple, list)) and len(value) == 2:
        value = Pair(*value)
    texts = (value.first, value.second) if isinstance(value, Pair) else (value,)
    trained = bool(task.preprocessing.facts.get(PAIRS))
    if isinstance(value, (str, Pair)) and trained != isinstance(value, Pair):
        raise ConfigError(f"input {row + 1} is {value!r}; this adapter was trained on {_kind(trained)}")
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(f"input {row + 1} is {value!r}; predict takes a list of non-empty texts, or of pairs")
        check_characters(text, f"input {row + 1}")
    return value


def samples(task: Task) -> Sequence[str | Pair]:
    """Made-up texts, or pairs where the adapter was trained on pairs."""
    if not task.preprocessing.facts.get(PAIRS):
        return list(SAMPLE_TEXTS)
    return [Pair(text, SAMPLE_TEXTS[number - 1]) for number, text in enumerate(SAMPLE_TEXTS)]


def probe(task: Task, item: str | Pair, number: int) -> Any:
    """A text or a pair as JSON."""
    return {"first": item.first, "second": item.second} if isinstance(item, Pair) else item


def item_of_probe(task: Task, value: Any) -> str | Pair:
    """The inverse of `probe`.

    Raises:
        AdapterCorruptError: something that `probe` never made.
    """
    match value:
        case str():
            return value
        case {"first": str(first), "second": str(second), **rest} if not rest:
            return Pair(first, second)
    raise AdapterCorruptError(
        f"adapterhub.json: probe input not understood: {str(value)[:80]!r}; save the adapter again"
    )
