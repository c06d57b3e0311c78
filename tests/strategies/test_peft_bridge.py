"""The bridge to PEFT: names and options are PEFT's, and every method does what its strategy declares.

The full run of all methods, with merging, NF4 and PEFT's own loader, is `python -m benchmarks.peft_methods`; here each
method is attached, trained for two steps, saved, loaded and taken off on a tiny encoder and a tiny decoder.
"""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.api import AfterStep, BatchContext, Grouped, OutputLoss, Penalized, Preparer
from adapterhub_lite.errors import ConfigError, NotSupportedError
from adapterhub_lite.progress import Silent
from adapterhub_peft import _spec
from adapterhub_peft.methods import KNOWN, NOT_TRIED, REFUSED
from adapterhub_peft.options import FIELDS, HELP, left_out, make_config
from adapterhub_peft.source import read_methods
from benchmarks import peft_methods as bench

METHODS = {method.name: method for method in read_methods()}
OFFERED = [name for name, method in METHODS.items() if not method.prompt_learning and name not in REFUSED]


@pytest.fixture(scope="module")
def peft_configs() -> dict[str, Any]:
    """PEFT's configuration classes by the name of the method."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what importing PEFT says is not about us
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
        from peft.utils import PeftType
    return {method.value.lower(): PEFT_TYPE_TO_CONFIG_MAPPING[method] for method in PeftType}


def test_the_methods_are_those_of_peft(peft_configs: dict[str, Any], engine: Any) -> None:
    assert METHODS.keys() == peft_configs.keys()
    prompt = {
        name
        for name, config in peft_configs.items()
        if any(c.__name__ == "PromptLearningConfig" for c in config.__mro__)
    }
    assert {name for name, method in METHODS.items() if method.prompt_learning} == prompt
    offered = {p.spec.name for p in engine.strategies() if p.plugin == "peft"}
    assert offered == {f"peft:{name}" for name in OFFERED}
    assert KNOWN.keys() | REFUSED.keys() | prompt == METHODS.keys(), (
        "a method nobody has looked at: add it to methods.py"
    )


@pytest.mark.parametrize("name", OFFERED)
def test_the_options_are_those_of_peft(peft_configs: dict[str, Any], engine: Any, name: str) -> None:
    """Every field of PEFT's dataclass is an option with PEFT's default and help, or is left out with a reason."""
    config = engine.strategy_shelf.resolve(f"peft:{name}").spec.config
    out = left_out(METHODS[name])
    own = {"targets", "seed", "remade", "fixed"}
    from peft import PeftConfig

    fields = {f.name: f for f in dataclasses.fields(peft_configs[name])}
    theirs = fields.keys() - {f.name for f in dataclasses.fields(PeftConfig)}
    assert config.model_fields.keys() == (theirs - out.keys()) | own
    assert all(out.values())
    for option in theirs - out.keys():
        field = fields[option]
        missing = dataclasses.MISSING
        expected = field.default if field.default_factory is missing else field.default_factory()
        mine = config.model_fields[option]
        assert mine.get_default(call_default_factory=True) == expected, option
        assert mine.description
        text = " ".join(str(field.metadata.get("help", "")).split())
        described = mine.description.split(f" {FIELDS}")[0]
        assert option in {**HELP, **KNOWN[name].help} or described == re.sub(r"<[^>]+>", "", text).strip() or not text
    made = config()
    assert config.model_validate_json(made.model_dump_json()) == made
    for option in theirs - out.keys():
        with pytest.raises(Exception, match=option):
            config.model_validate({option: object()})


def test_start_up_is_light() -> None:
    """Strategies are described without importing torch, transformers or PEFT, from a few files of PEFT's."""
    code = (
        "import sys; import adapterhub_lite.api; opened = []\n"
        "sys.addaudithook(lambda event, arguments: opened.append(1) if event == 'open' else None)\n"
        "import adapterhub_peft; specs = adapterhub_peft.adapterhub_strategies()\n"
        "print(len(specs), len(opened), [m for m in ('torch', 'transformers', 'peft') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    count, opened, heavy = done.stdout.split(" ", 2)
    assert int(count) == len(OFFERED)
    assert heavy.strip() == "[]"
    assert int(opened) < 4 * len(OFFERED)


@pytest.fixture(scope="module")
def made_bases() -> dict[str, Any]:
    return {kind: bench.tiny_base(kind) for kind in ("encoder", "decoder", "conv1d")}


@pytest.fixture
def bases(made_bases: dict[str, Any]) -> dict[str, Any]:
    """Tiny bases by kind; bare, whatever a test before this one left on them."""
    for base in made_bases.values():
        base.activate(None)
    return made_bases


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")  # torch's, in FRoD's forward
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
@pytest.mark.parametrize("name", OFFERED)
def test_a_method_trains_and_comes_back(
    engine: Any, bases: dict[str, Any], tmp_path: Path, name: str, kind: str
) -> None:
    base = bases[kind]
    clean = bench.bits(base.model)
    attachment, batch = bench.put(engine, base, name, kind)
    bare_parameters = {id(p) for p in base.model.parameters() if not p.requires_grad}
    assert not bare_parameters & {id(p) for p in attachment.parameters.values()}
    before, after, _ = bench.train(attachment, batch, steps=2)
    assert after != before
    trained = bench.outputs(base.model, batch)
    adapter = Adapter(attachment, engine.plugins, Silent())
    manifest = adapter.save(tmp_path / "adapter")
    adapter.detach()
    assert not bench.same_bits(clean, bench.bits(base.model))

    assert manifest.strategy.config["seed"] is not None
    torch.manual_seed(1234)  # what is not saved must not come from here
    again = engine.load_adapter(tmp_path / "adapter", base=base)
    again.use()
    assert torch.equal(bench.outputs(base.model, batch), trained)
    again.detach()
    assert not bench.same_bits(clean, bench.bits(base.model))
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["peft_type"] == name.upper()


@pytest.fixture(scope="module")
def four_bits(tmp_path_factory: pytest.TempPathFactory) -> str:
    return bench.write_tiny(tmp_path_factory.mktemp("four-bits"))["decoder"]


@pytest.mark.parametrize("name", ["ia3", "pvera", "randlora", "road"])
def test_a_language_model_in_four_bits_that_computes_in_bf16(engine: Any, four_bits: str, name: str) -> None:
    """Those whose layers answer in fp32, which the layer behind the last block refuses."""
    base = engine.load_base(four_bits, quantization="nf4", dtype="bfloat16", device="cpu")
    attachment, batch = bench.put(engine, base, name, "decoder")
    before, after, _ = bench.train(attachment, batch, steps=2)
    assert after != before


def test_two_methods_share_a_base(engine: Any, bases: dict[str, Any]) -> None:
    base = bases["decoder"]
    clean = bench.bits(base.model)
    one, batch = bench.put(engine, base, "vera", "decoder")
    first = bench.outputs(base.model, batch) if bench.train(one, batch, steps=1) else None
    other, _ = bench.put(engine, base, "oft", "decoder")
    bench.train(other, batch, steps=1)
    second = bench.outputs(base.model, batch)
    for _ in range(2):
        base.activate(one.view)
        assert torch.equal(bench.outputs(base.model, batch), first)
        base.activate(other.view)
        assert torch.equal(bench.outputs(base.model, batch), second)
    one.detach()
    other.detach()
    assert not bench.same_bits(clean, bench.bits(base.model))


def test_what_a_method_cannot_do_is_said(engine: Any, bases: dict[str, Any]) -> None:
    """One line that names the method, the model and what to use instead; the base is as it was."""
    base = bases["conv1d"]
    clean = bench.bits(base.model)
    with pytest.raises(NotSupportedError, match=r"peft:hra cannot be attached to this GPT2LMHeadModel: .*Conv1D.*lora"):
        bench.put(engine, base, "hra", "conv1d")
    with pytest.raises(ConfigError, match=r"peft:ia3: targets=nothing fits no weight of this model; there are: c_attn"):
        bench.put(engine, base, "ia3", "conv1d", targets="nothing")
    with pytest.raises(ConfigError, match=r"peft:vblora.*vector_length"):
        bench.put(engine, bases["encoder"], "vblora", "encoder", vector_length="long")
    with pytest.raises(NotSupportedError, match=r"peft:vblora cannot be attached to this BertModel: .*vector_length"):
        bench.put(engine, bases["encoder"], "vblora", "encoder", vector_length=48)
    assert not bench.same_bits(clean, bench.bits(base.model))
    quantized = bench.tiny_base("encoder")
    quantized.quantization = "nf4"
    with pytest.raises(NotSupportedError, match=r"'peft:hra' needs an unquantized base, and this one is nf4"):
        bench.put(engine, quantized, "hra", "encoder")
    summary = engine.strategy_shelf.resolve("peft:hra").spec.summary
    assert "unquantized bases only" in summary
    assert "GPT-2" in summary


def test_a_base_half_changed_by_peft_is_put_back(
    engine: Any, bases: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft.tuners.hra.model import HRAModel

    base, original, calls = bases["encoder"], HRAModel._create_and_replace, []

    def fail_late(self: Any, *args: Any, **kwargs: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise ValueError("the third layer is too much")
        original(self, *args, **kwargs)

    clean = bench.bits(base.model)
    monkeypatch.setattr(HRAModel, "_create_and_replace", fail_late)
    with pytest.raises(NotSupportedError, match="the third layer is too much"):
        bench.put(engine, base, "hra", "encoder")
    assert not bench.same_bits(clean, bench.bits(base.model))


def test_a_frozen_part_that_comes_out_otherwise_is_refused(engine: Any, bases: dict[str, Any]) -> None:
    """VeRA's projections are made from the seed; another number in the file is another adapter."""
    base = bases["encoder"]
    attachment, _ = bench.put(engine, base, "vera", "encoder")
    saved, _ = attachment.strategy.export(attachment.view, attachment.config, attachment.parameters)
    attachment.detach()
    bench.put(engine, base, "vera", "encoder", draw=5, **_settings(saved))[0].detach()
    with pytest.raises(NotSupportedError, match="comes out otherwise here than where the adapter was trained"):
        bench.put(engine, base, "vera", "encoder", **_settings(saved, remade=saved.remade + 0.01))
    with pytest.raises(NotSupportedError, match="comes out otherwise"):
        bench.put(engine, base, "vera", "encoder", **_settings(saved, projection_prng_key=1))


def _settings(config: Any, **changed: Any) -> dict[str, Any]:
    return {**config.model_dump(), **changed}


def test_a_method_nobody_tried_promises_nothing() -> None:
    """A newer PEFT may bring one: it is offered, with the least of traits."""
    traits = (NOT_TRIED.mergeable, NOT_TRIED.quantized, NOT_TRIED.identity)
    assert traits == (False, False, False)
    unknown = dataclasses.replace(METHODS["ia3"], name="brand_new")
    assert make_config(unknown)().model_dump()["targets"] == "all-linear"
    assert "not tried" in _spec(unknown).summary


def test_the_table_in_the_docs_is_in_step() -> None:
    text = bench.DOCUMENT.read_text(encoding="utf-8")
    made_with = re.search(r"PEFT (\d+\.\d+)\.", text)
    assert made_with is not None
    if not metadata.version("peft").startswith(f"{made_with[1]}."):
        pytest.skip(f"the table was made with PEFT {made_with[1]}; run python -m benchmarks.peft_methods")
    assert re.findall(r"^\| `peft:(\w+)` \|", text, re.MULTILINE) == OFFERED
    refused = text.split("## Methods that are not offered")[1].split("## Options")[0]
    assert set(re.findall(r"^\| (\w+) \|", refused, re.MULTILINE)) - {"PEFT"} == METHODS.keys() - set(OFFERED)
    columns = list(bench.COLUMNS)
    for name in OFFERED:
        row = next(line for line in text.splitlines() if line.startswith(f"| `peft:{name}` |"))
        cells = dict(zip(columns, (cell.split()[0] == "yes" for cell in row.split("|")[2:-1]), strict=True))
        known = KNOWN[name]
        declared = {
            "merges": known.mergeable,
            "nf4": known.quantized,
            "identity": known.identity,
            "conv1d": known.conv1d,
        }
        assert {mark: cells[mark] for mark in declared} == declared, name


def test_poly_takes_the_task_of_each_row_from_the_batch(engine: Any, bases: dict[str, Any]) -> None:
    base = bases["decoder"]
    attachment, batch = bench.put(engine, base, "poly", "decoder", n_tasks=3)
    for name, parameter in attachment.parameters.items():  # far from the start, at which tasks are alike
        parameter.data += torch.randn_like(parameter) if "module_logits" in name else 0.1
    tasks = torch.arange(len(batch["input_ids"])) % 3

    def of(task_ids: torch.Tensor) -> torch.Tensor:
        attachment.view.context = BatchContext({"task_ids": task_ids})
        return bench.outputs(base.model, batch)

    mixed, alone = of(tasks), [of(torch.full_like(tasks, task)) for task in range(3)]
    for row, task in enumerate(tasks.tolist()):
        torch.testing.assert_close(mixed[row], alone[task][row], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(alone[0], alone[1], atol=1e-3)
    attachment.view.context = None
    with pytest.raises(
        NotSupportedError, match="n_tasks=3 needs batches with one of `task_ids` for each row, which task"
    ):
        bench.outputs(base.model, batch)
    attachment.detach()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"token_indices": []}, r"trains the tokens in token_indices, and it is empty; name some"),
        ({"token_indices": [5, 900]}, r"token_indices names 900, and the tokens are 0 to 31"),
        ({"token_indices": [-1]}, r"token_indices names -1, and the tokens are 0 to 31"),
    ],
)
def test_tokens_that_there_are_not_are_refused(
    engine: Any, bases: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"peft:trainable_tokens.* ?{message}"):
        bench.put(engine, bases["decoder"], "trainable_tokens", "decoder", **settings)


def test_only_methods_that_have_a_schedule_a_loss_or_state_say_so(engine: Any) -> None:
    def having(protocol: Any) -> set[str]:
        return {
            name for name in OFFERED if isinstance(engine.strategy_shelf.resolve(f"peft:{name}").spec.make(), protocol)
        }

    assert having(AfterStep) == {"adalora", "adamss"}
    assert having(Penalized) == {"adalora", "lora"}
    assert having(Preparer) == having(Grouped) == having(OutputLoss) == set()
    one, other = (engine.strategy_shelf.resolve("peft:adalora").spec.make() for _ in range(2))
    assert one is not other


def test_an_option_that_is_a_configuration_has_the_fields_of_pefts(engine: Any) -> None:
    from peft.tuners.lora import config as theirs

    shown = engine.strategy_shelf.resolve("peft:lora").spec.config
    classes = {
        "kasa_config": theirs.KasaConfig,
        "monteclora_config": theirs.MontecloraConfig,
        "velora_config": theirs.VeloraConfig,
        "use_bdlora": theirs.BdLoraConfig,
    }
    for option, cls in classes.items():
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
        assert shown.model_validate({option: {}}).model_dump()[option] == defaults
        for field, value in defaults.items():
            assert f"{field}={value}" in shown.model_fields[option].description
        with pytest.raises(ValueError, match=f"{option}.nothing"):
            shown.model_validate({option: {"nothing": 1}})
