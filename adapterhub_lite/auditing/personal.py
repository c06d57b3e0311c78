"""Personal data in texts: e-mail addresses, phone numbers, card numbers and IDs; counted, and never shown whole."""

from __future__ import annotations

import re
from collections.abc import Iterator

from adapterhub_lite.auditing.finding import Finding, Row, fine

KEPT = 1_000
"""Rows of a kind that are named."""
EMAIL = re.compile(r"[\w.+-]{1,64}@(?:[a-z0-9-]{1,63}\.)+[a-z]{2,18}\b", re.IGNORECASE)
MADE_UP = re.compile(r"@(?:[\w-]+\.)*(?:example\.(?:com|org|net)|example|test|invalid|localhost)$", re.IGNORECASE)
"""Domains that RFC 2606 keeps for examples."""
PHONE = re.compile(
    r"(?<![\w.])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)|\d{1,4})|\(\d{3}\)|\d{3}(?=[.-]))"
    r"[ .-]?\d{3}[ .-]?\d{3,4}(?![\w-])"
)
CARD = re.compile(r"(?<![\w-])\d(?:[ -]?\d){12,18}(?![\w-])")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
SOCIAL = re.compile(r"(?<![\w-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")


class Personal:
    """How often each kind was seen, and in which rows."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.rows: dict[str, list[tuple[int, str]]] = {}

    def read(self, row: int, text: str) -> None:
        """Look through one text."""
        if "@" not in text and not any(map(str.isdigit, text)):
            return
        for kind, shown in seen_in(text):
            self.counts[kind] = self.counts.get(kind, 0) + 1
            rows = self.rows.setdefault(kind, [])
            if len(rows) < KEPT:
                rows.append((row, shown))


def seen_in(text: str) -> Iterator[tuple[str, str]]:
    """Each kind of personal data in a text, with its first and last character."""
    for match in EMAIL.finditer(text):
        if not MADE_UP.search(match[0]):
            yield "e-mail address", f"{match[0][0]}***@***"
    for match in IBAN.finditer(text):
        if is_iban(match[0]):
            yield "IBAN", f"{match[0][:2]}***"
    cards = [match for match in CARD.finditer(text) if is_card(match[0])]
    for match in cards:
        yield "card number", f"***{match[0][-2:]}"
    for match in SOCIAL.finditer(text):
        yield "social security number", f"***{match[0][-2:]}"
    for match in PHONE.finditer(text):
        if not any(card.start() < match.end() and match.start() < card.end() for card in cards):
            yield "phone number", f"***{match[0][-2:]}"


def is_card(text: str) -> bool:
    """Whether digits are a card number: they begin as one does, and the check digit is right (Luhn, ISO/IEC 7812)."""
    digits = [int(character) for character in text if character.isdigit()]
    if not 13 <= len(digits) <= 19 or digits[0] not in (3, 4, 5, 6) or len(set(digits)) == 1:
        return False
    doubled = [2 * digit - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def is_iban(text: str) -> bool:
    """Whether a text is an IBAN whose check digits are right (ISO 13616)."""
    plain = text.replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def personal_data(sides: list[tuple[str, Personal]], rows: int) -> Finding:
    """What was seen in all sides together."""
    name = "personal data"
    counts: dict[str, int] = {}
    for _, personal in sides:
        for kind, count in personal.counts.items():
            counts[kind] = counts.get(kind, 0) + count
    if not counts:
        return fine(name, f"no e-mail address, phone, card or ID number in {rows:,} rows")
    said = ", ".join(f"{count:,} x {kind}" for kind, count in sorted(counts.items()))
    named = [
        Row(side, row, f"{kind} {shown}")
        for side, personal in sides
        for kind, places in personal.rows.items()
        for row, shown in places
    ]
    return Finding(
        name, "alarm", f"{said} in {rows:,} rows", "a model may repeat what it learnt: replace them by placeholders",
        named, sum(counts.values()), facts=counts,
    )  # fmt: skip
