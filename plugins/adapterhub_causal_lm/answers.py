"""How good answers are, beside those that the data has: exact match, token F1, ROUGE-L, chrF, and what a user asks for."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from adapterhub_causal_lm.items import Chat, Completion
from adapterhub_lite.api import ConfigError, DataError, Dataset, place

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
INSTALL = "pip install 'adapterhub-lite[text-metrics]'"

Score = Callable[[str, str], Any]
"""From an answer and the reference to whether it is right, or how right from 0 to 1."""


class Judge:
    """Scores answers to the rows of a dataset.

    Args:
        data: Prompts with completions, or chats that end with the assistant, whose last turn is the reference.
        extract: A regular expression for the part of an answer that counts: its last match, of that the first group if it
            has one.
        score: The user's own measure.

    Raises:
        DataError: a row without a reference, or whose reference has nothing to extract.
        ConfigError: a bad expression, or a library that is not installed.
    """

    def __init__(self, data: Dataset, extract: str | None, score: Score | None):
        self._data, self._own, self._expression = data, score, None
        self.references = [_reference(item, self._where(row)) for row, item in enumerate(data.inputs)]
        self._rouge, self._chrf = _rouge_l(), _chrf()
        if extract is not None:
            try:
                self._expression = re.compile(extract)
            except re.error as error:
                raise ConfigError(f"--extract {extract}: is no regular expression ({error})") from None
            self._wanted = [self._extracted(text) for text in self.references]
            for row, wanted in enumerate(self._wanted):
                if wanted is None:
                    raise DataError(
                        f"{self._where(row)}: its reference has no match of --extract {extract}; correct one of them"
                    )

    def __call__(self, answers: Sequence[str]) -> dict[str, list[float]]:
        """Each score, of every answer in the order of the rows: 0 to 1."""
        pairs = list(zip(answers, self.references, strict=True))
        scores: dict[str, list[float]] = {
            "exact_match": [float(normalised(answer) == normalised(reference)) for answer, reference in pairs],
            "token_f1": [token_f1(answer, reference) for answer, reference in pairs],
            "rouge_l": [self._rouge(answer, reference) for answer, reference in pairs],
            "chrf": [self._chrf(answer, reference) for answer, reference in pairs],
        }
        if self._expression is not None:
            found = map(self._extracted, answers)
            scores["extracted"] = [float(_same(got, wanted)) for got, wanted in zip(found, self._wanted, strict=True)]
        if self._own is not None:
            scores["score"] = [self._scored(self._own, row, *pair) for row, pair in enumerate(pairs)]
        scores["empty"] = [float(not answer.strip()) for answer in answers]
        return scores

    def _where(self, row: int) -> str:
        table = self._data.table
        return table.where(row) if table is not None else place(self._data.source, row)

    def _extracted(self, text: str) -> str | None:
        assert self._expression is not None
        last = None
        for match in self._expression.finditer(text):
            last = match
        return None if last is None else (last[1] if self._expression.groups else last[0])

    def _scored(self, score: Score, row: int, answer: str, reference: str) -> float:
        try:
            value = score(answer, reference)
        except Exception as error:  # whatever a user's function raises
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise ConfigError(f"{self._where(row)}: the score function raised {reason}; correct it") from error
        number = float(value) if isinstance(value, (bool, int, float)) else math.nan
        if not 0 <= number <= 1:
            raise ConfigError(
                f"{self._where(row)}: the score function returned {value!r:.80}; return True, False or a number from 0 to 1"
            )
        return number


def normalised(text: str) -> str:
    """Text as SQuAD's evaluation compares it: lower case, no punctuation, no articles, single blanks (Rajpurkar et al. 2016)."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def token_f1(answer: str, reference: str) -> float:
    """F1 of the words of two normalised texts, as SQuAD's evaluation computes it; 1 where both have none."""
    got, wanted = normalised(answer).split(), normalised(reference).split()
    if not got or not wanted:
        return float(got == wanted)
    common = sum((Counter(got) & Counter(wanted)).values())
    return 2 * common / (len(got) + len(wanted))


def _rouge_l() -> Callable[[str, str], float]:
    """ROUGE-L, the F-measure of the longest common subsequence of words (Lin 2004), without stemming."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise ConfigError(f"ROUGE-L needs the package rouge-score, which is not installed; {INSTALL}") from None
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    return lambda answer, reference: float(scorer.score(reference, answer)["rougeL"].fmeasure)


def _chrf() -> Callable[[str, str], float]:
    """chrF2 of one answer, the F-measure of n-grams of characters (Popovic 2015), divided by 100."""
    try:
        from sacrebleu.metrics import CHRF
    except ImportError:
        raise ConfigError(f"chrF needs the package sacrebleu, which is not installed; {INSTALL}") from None
    scorer = CHRF()
    return lambda answer, reference: float(scorer.sentence_score(answer, [reference]).score) / 100


def _reference(item: Any, where: str) -> str:
    text = ""
    if isinstance(item, Completion):
        text = item.completion
    elif isinstance(item, Chat) and item.messages[-1].role == "assistant":
        text = item.messages[-1].content
    if not text.strip():
        raise DataError(
            f"{where}: has no answer to compare with; give prompts with completions, or chats that end with the assistant"
        )
    return text


def _same(got: str | None, wanted: str | None) -> bool:
    """Whether two extracted texts are alike, as numbers where both are: 1,000.0 is 1000."""
    if got is None or wanted is None:
        return False
    try:
        return Decimal(got.strip().replace(",", "")) == Decimal(wanted.strip().replace(",", ""))
    except InvalidOperation:
        return got.strip() == wanted.strip()
