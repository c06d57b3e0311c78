"""Whether the ids that a tokenizer gives are rows of the embedding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapterhub_lite.errors import DataError


def tokens_beyond(model: Any, tokenizer: Any) -> dict[int, str]:
    """The tokens, by id, that a tokenizer may give and the embedding of a model of texts has no row for."""
    rows = rows_of_embedding(model)
    if rows is None or not hasattr(tokenizer, "get_vocab"):
        return {}
    return {number: token for token, number in tokenizer.get_vocab().items() if number >= rows}


def rows_of_embedding(model: Any) -> int | None:
    """How many tokens a model of texts knows; None for other models, and without a table of embeddings."""
    if getattr(model, "main_input_name", None) != "input_ids":
        return None
    weight = getattr(model.get_input_embeddings(), "weight", None)
    return None if weight is None else int(weight.shape[0])


def check_usual_tokens(model: Any, tokenizer: Any, beyond: Mapping[int, str], say: Callable[[str], None]) -> None:
    """Refuse a tokenizer that gives ids without a row for words, or for the special tokens that it puts into texts itself.

    Tokens that were added to it stand for their own content alone. Published bases have some that they never use (Gemma 3
    without images has the token of an image): that is said, and a row with one of them is refused when it is met.

    Raises:
        ValueError: naming the token.
    """
    if not beyond:
        return
    # A tokenizer also lists those that its own files name, which it does not put in.
    standard = type(tokenizer).SPECIAL_TOKENS_ATTRIBUTES
    in_use = {token for name, token in tokenizer.special_tokens_map.items() if name in standard}
    rare = tokenizer.get_added_vocab().keys() - in_use
    rows = rows_of_embedding(model)
    for number, token in beyond.items():
        if token not in rare:
            raise ValueError(
                f"the tokenizer gives {token[:40]!r} the number {number}, and the model knows {rows} tokens"
            )
    first = next(iter(beyond.values()))[:40]
    say(f"the base has no embedding for {len(beyond)} of its tokens, such as {first!r}; rows with one are refused")


def check_ids(ids: Sequence[int], beyond: Mapping[int, str], where: str) -> None:
    """Refuse an input that has a token without a row in the embedding.

    Args:
        ids: Of its tokens.
        beyond: As `tokens_beyond`.
        where: Names the input, for the error.

    Raises:
        DataError: naming input, token and id.
    """
    number = next((number for number in ids if number in beyond), None) if beyond else None
    if number is not None:
        raise DataError(
            f"{where}: the text has the token {beyond[number][:40]!r} (id {number}), which the base has no embedding for; "
            "take it out of the text"
        )
