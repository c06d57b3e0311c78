"""Whether a base is the one that an adapter was trained on."""

from __future__ import annotations

from adapterhub_lite.errors import BaseMismatchError
from adapterhub_lite.storage.manifest import BaseRecord, Fingerprint

# The order in which a person would want to hear of it: what kind of model, then which one, then its parts.
_COMPARED = ("architecture", "weights", "layers", "vocabulary", "tokenizer")


def check_base(
    record: BaseRecord, fingerprint: Fingerprint, quantization: str, reference: str, *, force: bool = False
) -> list[str]:
    """Compare the base of an adapter's manifest with the one at hand, and return warnings, each one line.

    The same weights quantized in another way are a warning, not an error. With `force` every difference is a warning,
    to be recorded in `Manifest.forced` by whoever saves what comes of it.

    Raises:
        BaseMismatchError: naming each difference with both values, and the reference to load instead.
    """
    differences = [
        f"{name} {_short(saved)} in the adapter but {_short(here)} here"
        for name in _COMPARED
        if (saved := getattr(record.fingerprint, name)) != (here := getattr(fingerprint, name))
    ]
    if differences and not force:
        revision = f" (revision {_short(record.revision)})" if record.revision else ""
        raise BaseMismatchError(
            f"the adapter was trained on another base than {reference!r}: {'; '.join(differences)}; "
            f"load {record.reference!r}{revision} instead"
        )
    if record.quantization != quantization:
        differences.append(
            f"quantization {record.quantization} in the adapter but {quantization} here: "
            "the weights are the same, outputs may differ a little"
        )
    return differences


def _short(value: str | int | None) -> str:
    """Shorten a digest to what a person can compare by eye."""
    text = "none" if value is None else str(value)
    return text if len(text) <= 12 else f"{text[:12]}…"
