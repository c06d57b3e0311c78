"""An adapter goes onto the base it was trained on and onto no other, however alike."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from almost import EDITS, REVISIONS, edit, write_llama

from adapterhub_lite.adapter.replay import replay
from adapterhub_lite.errors import AdapterHubError, BaseMismatchError
from adapterhub_lite.storage import read_adapter

STRATEGIES = ("lora", "prefix", "linear_probe", "full")


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", EDITS)
def test_refuses_a_base_that_is_almost_right(
    name: str, strategy: str, engine: Any, load: Any, wrong_base: Any, adapters: Any, right_base: Path, bits: Any
) -> None:
    adapter, base = adapters(strategy), load(wrong_base(name))
    before = bits(base.model)
    with pytest.raises(BaseMismatchError) as caught:
        engine.load_adapter(adapter, base=base)
    message = str(caught.value)
    assert EDITS[name][1] in message
    assert f"load '{right_base}' instead" in message
    assert base.active is None
    assert bits(base.model) == before


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_refuses_another_revision(strategy: str, engine: Any, hub: str, rows: Any, tmp_path: Path) -> None:
    first, second = (engine.load_base(f"{hub}@{r}", dtype="float32", device="cpu") for r in REVISIONS)
    adapter = engine.train(first, rows, strategy=strategy)
    adapter.save(tmp_path / "adapter")
    with pytest.raises(BaseMismatchError, match=rf"weights .*load 'someone/tiny@{REVISIONS[0]}' instead"):
        engine.load_adapter(tmp_path / "adapter", base=second)
    engine.load_adapter(tmp_path / "adapter", base=f"{hub}@{REVISIONS[0]}").detach()


def test_names_the_revision_that_was_meant_by_none(engine: Any, hub: str, rows: Any, tmp_path: Path) -> None:
    first = engine.load_base(hub, dtype="float32", device="cpu")
    engine.train(first, rows, strategy="lora").save(tmp_path / "adapter")
    (tmp_path / "models--someone--tiny" / "refs" / "main").write_text(REVISIONS[1])  # the hub has moved on
    with pytest.raises(BaseMismatchError, match=rf"load 'someone/tiny@{REVISIONS[0]}' instead"):
        engine.load_adapter(tmp_path / "adapter")
    engine.load_adapter(tmp_path / "adapter", base=f"{hub}@{REVISIONS[0]}").detach()


def test_does_not_explain_by_a_base_that_was_edited_since(
    engine: Any, rows: Any, tmp_path: Path, load: Any, wrong_base: Any
) -> None:
    recorded = write_llama(tmp_path / "base")
    engine.train(engine.load_base(str(recorded), dtype="float32"), rows, strategy="lora").save(tmp_path / "adapter")
    edit(recorded / "config.json", rms_norm_eps=0.5)
    with pytest.raises(BaseMismatchError, match=r"architecture [0-9a-f]{12}… in the adapter but [0-9a-f]{12}… here"):
        engine.load_adapter(tmp_path / "adapter", base=load(wrong_base("another rope theta")))


@pytest.mark.parametrize(
    ("key", "value"), [("chat_template", "{{ messages }}"), ("do_lower_case", True), ("add_bos_token", False)]
)
def test_tokenizer_settings_belong_to_the_base(
    key: str, value: Any, engine: Any, adapters: Any, right_base: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(right_base, folder)
    edit(folder / "tokenizer_config.json", **{key: value})
    with pytest.raises(BaseMismatchError, match=r"tokenizer"):
        engine.load_adapter(adapters("lora"), base=str(folder))


def test_the_same_base_elsewhere_is_right(engine: Any, adapters: Any, right_base: Path, tmp_path: Path) -> None:
    shutil.copytree(right_base, tmp_path / "copy")
    for shard in (tmp_path / "copy").glob("*.safetensors"):
        shard.touch()
    adapter = engine.load_adapter(adapters("lora"), base=str(tmp_path / "copy"))
    probe = read_adapter(adapters("lora")).manifest.probe
    assert probe is not None
    replayed = replay(adapter, probe)
    assert replayed.inputs > 0
    assert replayed.difference <= replayed.tolerance
    adapter.detach()


def test_head_of_the_checkpoint_is_part_of_it(engine: Any, adapters: Any, right_base: Path, tmp_path: Path) -> None:
    """The same files opened without their language-modelling head are another model."""
    shutil.copytree(right_base, tmp_path / "copy")
    edit(tmp_path / "copy" / "config.json", architectures=["LlamaModel"])
    with pytest.raises(BaseMismatchError, match=r"architecture"):
        engine.load_adapter(adapters("lora"), base=str(tmp_path / "copy"))


@pytest.mark.parametrize("strategy", ["lora", "prefix", "linear_probe"])
def test_another_quantization_is_a_warning(
    strategy: str, load: Any, right_base: Path, adapters: Any, tmp_path: Path
) -> None:
    from adapterhub_lite.engine import Engine
    from tests.listening import Listening

    progress = Listening()
    for quantization in ("nf4", "int8"):
        base = load(right_base, quantization)
        assert base.fingerprint == load(right_base).fingerprint
        adapter = Engine(progress=progress).load_adapter(adapters(strategy), base=base)
        assert f"warning: quantization none in the adapter but {quantization} here" in progress.lines[-1]
        adapter.save(tmp_path / quantization)
        assert json.loads((tmp_path / quantization / "adapterhub.json").read_text())["forced"] == []
        adapter.detach()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_force_is_recorded_and_stays_recorded(
    strategy: str, engine: Any, load: Any, wrong_base: Any, adapters: Any, tmp_path: Path
) -> None:
    other = load(wrong_base("another rope theta"))
    forced = engine.load_adapter(adapters(strategy), base=other, force=True)
    forced.save(tmp_path / "once")
    forced.detach()
    again = engine.load_adapter(tmp_path / "once", base=other)  # no force: it was saved with this base
    again.save(tmp_path / "twice")
    again.detach()
    for name in ("once", "twice"):
        manifest = json.loads((tmp_path / name / "adapterhub.json").read_text())
        assert manifest["base"]["reference"] == f"./{Path(other.reference).name}"
        assert len(manifest["forced"]) == 1
        assert "rope_theta 10000.0 in the adapter but 500000.0 here" in manifest["forced"][0]


@pytest.mark.parametrize("strategy", ["lora", "prefix", "full"])
def test_force_does_not_drop_half_the_adapter(
    strategy: str, engine: Any, load: Any, wrong_base: Any, adapters: Any
) -> None:
    base = load(wrong_base("fewer layers"))
    with pytest.raises(AdapterHubError):
        engine.load_adapter(adapters(strategy), base=base, force=True)


def test_peft_takes_most_of_them_silently(right_base: Path, wrong_base: Any, adapters: Any) -> None:
    """For comparison: what PEFT says to the same adapter on the same bases."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    silent = []
    for name in EDITS:
        model = AutoModelForCausalLM.from_pretrained(wrong_base(name))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                PeftModel.from_pretrained(model, adapters("lora"))
            except RuntimeError:
                continue  # another hidden size: the shapes do not fit
        if not [warning for warning in caught if "deprecated" not in str(warning.message)]:
            silent.append(name)
    assert silent == [name for name in EDITS if name != "another hidden size"]
