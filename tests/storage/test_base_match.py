"""Whether a base fits an adapter."""

from __future__ import annotations

import pytest
from storage_samples import FINGERPRINT, manifest

from adapterhub_lite.errors import BaseMismatchError
from adapterhub_lite.storage.base_match import check_base

RECORD = manifest().base


def test_the_same_base() -> None:
    assert check_base(RECORD, FINGERPRINT, "nf4", "elsewhere") == []


def test_another_quantization_is_a_warning() -> None:
    (warning,) = check_base(RECORD, FINGERPRINT, "none", "org/base")
    assert "nf4" in warning
    assert "none" in warning


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("architecture", "e" * 64, "architecture aaaaaaaaaaaa… in the adapter but eeeeeeeeeeee… here"),
        ("weights", "e" * 64, "weights bbbbbbbbbbbb…"),
        ("layers", 12, "layers 6 in the adapter but 12 here"),
        ("vocabulary", 30523, "vocabulary 30522 in the adapter but 30523 here"),
        ("tokenizer", None, "tokenizer cccccccccccc… in the adapter but none here"),
    ],
)
def test_each_difference_is_named(field: str, value: object, shown: str) -> None:
    other = FINGERPRINT.model_copy(update={field: value})
    with pytest.raises(BaseMismatchError) as caught:
        check_base(RECORD, other, "nf4", "org/other")
    assert shown in str(caught.value)
    assert "'org/other'" in str(caught.value)
    assert "load 'org/base' instead" in str(caught.value)
    assert shown in check_base(RECORD, other, "nf4", "org/other", force=True)[0]
    assert len(check_base(RECORD, other, "int8", "org/other", force=True)) == 2
