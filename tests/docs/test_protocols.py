"""docs/strategy-protocols.md is what the code says; its examples and its table are run in tests/training."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

from adapterhub_lite.base import learning
from adapterhub_lite.base.view import ModelView
from docs.make_protocols import CHANGING, LOOKING, PROTOCOLS, THE_ENGINES, reference

DOCUMENT = Path(__file__).parents[2] / "docs" / "strategy-protocols.md"


def test_the_document_is_what_its_command_writes():
    said = subprocess.run(
        [sys.executable, "-m", "docs.make_protocols"], capture_output=True, text=True, check=True
    ).stdout
    assert said == reference()
    how = "run: python -m docs.make_protocols > docs/strategy-protocols.md"
    assert DOCUMENT.read_text(encoding="utf-8") == said, how


def test_every_method_of_a_view_and_every_protocol_is_in_it():
    members = {name for name in vars(ModelView) if not name.startswith("_")}
    assert members == {*LOOKING, *CHANGING, *THE_ENGINES}
    protocols = {kind for kind in vars(learning).values() if getattr(kind, "_is_runtime_protocol", False)}
    assert protocols == {protocol for protocol, _, _ in PROTOCOLS[1:]}
    for protocol, example, _ in PROTOCOLS[1:]:
        assert issubclass(example, protocol), f"{example.__name__} shows what {protocol.__name__} is for"
    signatures = inspect.getsource(learning)
    for _, example, _ in PROTOCOLS[1:]:
        assert any(f"def {name}(" in signatures for name in vars(example) if not name.startswith("_"))
