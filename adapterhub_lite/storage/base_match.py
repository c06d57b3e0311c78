"""Whether the base at hand is the one that an adapter was trained on."""

from __future__ import annotations

import re
from collections.abc import Callable

from adapterhub_lite.errors import BaseMismatchError
from adapterhub_lite.storage.manifest import BaseRecord, Fingerprint
from adapterhub_lite.storage.public import local_reference

# The order in which differences are reported: the kind of model, then which model, then its parts.
_COMPARED = ("architecture", "weights", "layers", "vocabulary", "tokenizer")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def check_base(
    record: BaseRecord,
    fingerprint: Fingerprint,
    quantization: str,
    reference: str,
    *,
    force: bool = False,
    explain: Callable[[], str | None] = lambda: None,
) -> list[str]:
    """Compare the base of an adapter's manifest with the one at hand, and return warnings, each one line.

    The same weights quantized in another way are a warning, not an error. With `force` every difference is a warning,
    to be recorded in `Manifest.forced` by whoever saves what comes of it. `explain` is asked in which settings the
    architectures differ, where they do; a digest only says that they do.

    Raises:
        BaseMismatchError: naming each difference with both values, and the reference to load instead.
    """
    differences = []
    for name in _COMPARED:
        saved, here = getattr(record.fingerprint, name), getattr(fingerprint, name)
        if saved != here:
            settings = explain() if name == "architecture" else None
            differences.append(
                f"architecture ({settings})"
                if settings
                else f"{name} {_short(saved)} in the adapter but {_short(here)} here"
            )
    if differences and not force:
        raise BaseMismatchError(
            f"the adapter was trained on another base than {reference!r}: {'; '.join(differences)}; "
            f"load {exact_reference(record)!r} instead"
        )
    if record.quantization != quantization:
        same = "" if differences else ": the weights are the same, outputs may differ a little"
        differences.append(f"quantization {record.quantization} in the adapter but {quantization} here{same}")
    return differences


def exact_reference(record: BaseRecord) -> str:
    """The reference that leads to the very revision of training, where the recorded one leads to whatever is newest."""
    if record.revision and _COMMIT.fullmatch(record.revision) and "@" not in record.reference:
        return f"{record.reference}@{record.revision}"
    return local_reference(record)


def _short(value: str | int | None) -> str:
    """Shorten a digest to what a person can compare by eye."""
    text = "none" if value is None else str(value)
    return text if len(text) <= 12 else f"{text[:12]}…"
