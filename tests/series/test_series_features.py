"""Features of series against the model run by hand, with transformers and numpy alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from adapterhub_lite import load_data
from adapterhub_lite.api import ModelMap, hookimpl
from adapterhub_lite.base.foreign import Foreign
from adapterhub_lite.base.loading import load_base
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import AdapterCorruptError, ConfigError, DataError, NotSupportedError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.progress import Silent
from adapterhub_lite.tasks.task import Preprocessing
from adapterhub_lite.training.config import TrainConfig
from adapterhub_series import adapterhub_describe_model

Bases = Callable[[str], str]
Files = Callable[[str, str], Path]


def _features(engine: Engine, base: Any, data: Any, rows: int = 5, **options: Any) -> Tensor:
    task = engine.task_for(base, data, options)
    batch = task.collate(task.encode(data, base).examples[:rows], base)
    with torch.no_grad():
        features = task.features(base, batch)[0]
    head = task.head(base.map)
    assert features.shape == (min(rows, len(data)), head.in_features)
    return features


def _standard(data: Any, steps: int, rows: int = 5) -> Tensor:
    """The first series in units of the channels of the whole, with `steps` steps."""
    whole = np.concatenate(list(data.inputs)).astype(np.float64)
    mean, spread = np.nanmean(whole, axis=0), np.nanstd(whole, axis=0)
    made = []
    for values in data.inputs[:rows]:
        places = np.linspace(0, len(values) - 1, steps)
        columns = [np.interp(places, np.arange(len(values)), column) for column in ((values - mean) / spread).T]
        made.append(np.stack(columns, axis=1))
    return torch.tensor(np.stack(made), dtype=torch.float32)


POOLED: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda hidden: hidden.mean(2),
    "max": lambda hidden: hidden.amax(2),
    "last": lambda hidden: hidden[:, :, -1],
    "flatten": lambda hidden: hidden.reshape(*hidden.shape[:2], -1),
    "mean+max": lambda hidden: torch.cat([hidden.mean(2), hidden.amax(2)], -1),
    "mean+last": lambda hidden: torch.cat([hidden.mean(2), hidden[:, :, -1]], -1),
}


@pytest.mark.parametrize("how", POOLED)
def test_one_channel(engine: Engine, series_base: Bases, ucr: Files, how: str) -> None:
    data = load_data(ucr("GunPoint", "TRAIN"), "series-classification")
    base = engine.load_base(series_base("plain"), dtype="float32", device="cpu")
    model = transformers.PatchTSTModel.from_pretrained(series_base("plain")).eval()
    with torch.no_grad():
        hidden = model(past_values=_standard(data, 32)).last_hidden_state
    features = _features(engine, base, data, patch_pooling=how)
    torch.testing.assert_close(features, POOLED[how](hidden)[:, 0], atol=1e-5, rtol=1e-5)


def test_the_summary_token(engine: Engine, series_base: Bases, ucr: Files) -> None:
    data = load_data(ucr("GunPoint", "TRAIN"), "series-classification")
    base = engine.load_base(series_base("summary"), dtype="float32", device="cpu")
    model = transformers.PatchTSTModel.from_pretrained(series_base("summary")).eval()
    with torch.no_grad():
        hidden = model(past_values=_standard(data, 32)).last_hidden_state[:, 0]
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(_features(engine, base, data, levels=False), hidden[:, 0], **close)
    for how, wanted in (("mean", hidden[:, 1:].mean(1)), ("flatten", hidden[:, 1:].flatten(1))):
        torch.testing.assert_close(_features(engine, base, data, levels=False, patch_pooling=how), wanted, **close)


@pytest.mark.parametrize("kind", ["apart", "three", "summary", "mixer"])
@pytest.mark.parametrize("pooling", ["concat", "mean"])
def test_any_number_of_channels(
    engine: Engine, series_base: Bases, ucr: Files, tmp_path: Path, kind: str, pooling: str
) -> None:
    """A base that treats channels apart gives what the same weights would, configured for these channels."""
    data = load_data(ucr("JapaneseVowels", "TRAIN"), "series-classification")
    base = engine.load_base(series_base(kind), dtype="float32", device="cpu")
    config = transformers.AutoConfig.from_pretrained(series_base(kind))
    config.num_input_channels = 12
    model = transformers.AutoModel.from_config(config).eval()
    model.load_state_dict(transformers.AutoModel.from_pretrained(series_base(kind)).state_dict())
    with torch.no_grad():
        hidden = model(past_values=_standard(data, 32)).last_hidden_state
    assert hidden.shape[:2] == (5, 12)
    vectors = hidden[:, :, 0] if kind == "summary" else hidden.mean(2)
    wanted = vectors.flatten(1) if pooling == "concat" else vectors.mean(1)
    features = _features(engine, base, data, channel_pooling=pooling, levels=False)
    torch.testing.assert_close(features, wanted, atol=2e-5, rtol=1e-4)


def test_levels_stand_beside_them(engine: Engine, series_base: Bases, ucr: Files) -> None:
    """The base scales each series by itself; the head sees what it took out."""
    data = load_data(ucr("BasicMotions", "TRAIN"), "series-classification")
    base = engine.load_base(series_base("apart"), dtype="float32", device="cpu")
    with_levels, without = _features(engine, base, data), _features(engine, base, data, levels=False)
    values = _standard(data, 32).double()
    wanted = torch.cat([values.mean(1), values.std(1, correction=0)], dim=1)
    assert wanted.shape == (5, 12)
    torch.testing.assert_close(with_levels[:, :-12], without)
    torch.testing.assert_close(with_levels[:, -12:], wanted.float(), atol=1e-5, rtol=1e-5)
    plain = engine.load_base(series_base("plain"), dtype="float32", device="cpu")
    assert _features(engine, plain, data).shape == without.shape  # this one leaves them in
    assert _features(engine, base, data, normalize="series").shape == without.shape  # there are none


@pytest.mark.parametrize(("kind", "argument"), [("three", "past_observed_mask"), ("mixer", "observed_mask")])
def test_what_is_missing_is_told_to_the_base(engine: Engine, series_base: Bases, kind: str, argument: str) -> None:
    random = np.random.default_rng(0)
    channels = 3 if kind == "three" else 1
    values = random.normal(size=(6, 32, channels)).astype(np.float32)
    values[:, 5:9] = np.nan
    rows = [
        {"label": "ab"[i % 2], **{f"c{c}": series[:, c].tolist() for c in range(channels)}}
        for i, series in enumerate(values)
    ]
    data = load_data(rows, "series-classification")
    base = engine.load_base(series_base(kind), dtype="float32", device="cpu")
    model = transformers.AutoModel.from_pretrained(series_base(kind)).eval()
    mean, spread = np.nanmean(values, axis=(0, 1)), np.nanstd(values.astype(np.float64), axis=(0, 1))
    there = ~np.isnan(values)
    filled = values.copy()
    for series in filled:
        for channel in series.T:
            known = ~np.isnan(channel)
            channel[:] = np.interp(np.arange(32), np.flatnonzero(known), channel[known])
    given = torch.tensor((filled - mean) / spread, dtype=torch.float32)
    with torch.no_grad():
        wanted = model(past_values=given, **{argument: torch.tensor(there)}).last_hidden_state.mean(2).flatten(1)
        ignored = model(past_values=given).last_hidden_state.mean(2).flatten(1)
    features = _features(engine, base, data, rows=6, levels=False)
    torch.testing.assert_close(features, wanted, atol=2e-5, rtol=1e-4)
    assert not torch.allclose(features, ignored, atol=1e-3)
    task = engine.task_for(base, data)
    assert "filled in" in " ".join(task.encode(data, base).notes)


def test_a_base_saved_in_pretraining_hides_nothing(engine: Engine, series_base: Bases, ucr: Files) -> None:
    data = load_data(ucr("GunPoint", "TRAIN"), "series-classification")
    base = engine.load_base(series_base("pretraining"), dtype="float32", device="cpu")
    assert type(base.model).__name__ == "PatchTSTModel"
    whole = transformers.PatchTSTForPretraining.from_pretrained(series_base("pretraining")).eval()
    whole.model.do_mask_input = False
    whole.model.masking = nn.Identity()
    with torch.no_grad():
        wanted = whole.model(past_values=_standard(data, 32)).last_hidden_state.mean(2)[:, 0]
    torch.testing.assert_close(_features(engine, base, data, levels=False), wanted, atol=1e-5, rtol=1e-5)
    base.model.do_mask_input = True
    with pytest.raises(NotSupportedError, match="hides a part of its input at random"):
        engine.task_for(base, data)


@pytest.mark.parametrize("kind", ["together", "mixing"])
def test_a_base_that_mixes_channels_takes_its_own_number(
    engine: Engine, series_base: Bases, ucr: Files, kind: str
) -> None:
    base = engine.load_base(series_base(kind), dtype="float32", device="cpu")
    with pytest.raises(NotSupportedError, match=r"made for 3 channels and treats them together, so it cannot take 1\b"):
        engine.task_for(base, load_data(ucr("GunPoint", "TRAIN"), "series-classification"))
    three = load_data(
        ucr("BasicMotions", "TRAIN"), "series-classification", columns={"channels": "channel_1,channel_3,channel_6"}
    )
    model = transformers.AutoModel.from_pretrained(series_base(kind)).eval()
    with torch.no_grad():
        wanted = model(past_values=_standard(three, 32)).last_hidden_state.mean(2).flatten(1)
    torch.testing.assert_close(_features(engine, base, three, levels=False), wanted, atol=2e-5, rtol=1e-4)


def test_in_bfloat16(engine: Engine, series_base: Bases, ucr: Files) -> None:
    data = load_data(ucr("GunPoint", "TRAIN"), "series-classification")
    exact = _features(engine, engine.load_base(series_base("plain"), dtype="float32", device="cpu"), data)
    base = engine.load_base(series_base("plain"), dtype="bfloat16", device="cpu")
    assert base.dtype == torch.bfloat16
    features = _features(engine, base, data)
    assert features.dtype == torch.float32
    assert float((features - exact).norm() / exact.norm()) < 0.02


@pytest.mark.parametrize("width", [16, 64])
def test_quantized(engine: Engine, ucr: Files, tmp_path: Path, write_series_base: Any, width: int) -> None:
    """Finding out about a base runs it, before its quantized form is kept: then and later it gives what it should."""
    functional = pytest.importorskip("bitsandbytes.functional")
    sizes = {"d_model": width, "patch_length": width, "patch_stride": width, "context_length": 128}
    folder = str(write_series_base("plain", tmp_path / "base", **sizes))
    data = load_data(ucr("GunPoint", "TRAIN"), "series-classification")
    model = transformers.PatchTSTModel.from_pretrained(folder, dtype=torch.bfloat16).eval()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            row = functional.quantize_4bit(
                module.weight.data.reshape(1, -1), quant_type="nf4", compress_statistics=True
            )
            module.weight.data = functional.dequantize_4bit(*row).reshape(module.weight.shape)
    with torch.no_grad():
        values = _standard(data, 128).bfloat16()
        wanted = model(past_values=values).last_hidden_state.float().mean(2)[:, 0]
    for _ in range(2):  # quantized now, and as kept
        base = engine.load_base(folder, quantization="nf4", dtype="bfloat16", device="cpu")
        features = _features(engine, base, data)
        assert float((features - wanted).norm() / wanted.norm()) < 0.03
        adapter = engine.train(base, data, strategy="lora", config=TrainConfig(steps=2))
        moved = [name for name, tensor in adapter.attachment.tensors.items() if "lora_B" in name and tensor.any()]
        assert len(moved) == len(base.map.linears)
        adapter.detach()


class Averages(nn.Module):
    """An encoder of nobody's: any number of steps, features a step, and no configuration."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(2))

    def forward(self, values: Tensor) -> Tensor:
        hidden = self.embed(values)  # (batch, time, 8)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return hidden


def test_an_encoder_described_by_a_plugin(series_base: Bases, ucr: Files) -> None:
    plugin = ModuleType("averages")
    layers = ("blocks.0", "blocks.1")
    plugin.adapterhub_describe_model = hookimpl(  # type: ignore[attr-defined]
        lambda model: ModelMap("series", 8, layers, ("blocks.0.0", "blocks.1.0"), (), None, "mean", False)
    )
    plugin.adapterhub_load_base = hookimpl(lambda ref, quantization: Averages())  # type: ignore[attr-defined]
    plugins = Plugins()
    plugins.register(plugin)
    engine = Engine(plugins, Silent())
    base = engine.load_base("anything", device="cpu")
    data = load_data(ucr("BasicMotions", "TRAIN"), "series-classification")
    with torch.no_grad():
        wanted = base.model(_standard(data, 100)).mean(1)
    torch.testing.assert_close(_features(engine, base, data), wanted, atol=1e-5, rtol=1e-5)
    adapter = engine.train(base, data, strategy="full")
    assert adapter.evaluate(data).n == 40
    adapter.detach()


def test_options_that_cannot_be_followed(engine: Engine, series_base: Bases, ucr: Files) -> None:
    base = engine.load_base(series_base("apart"), dtype="float32", device="cpu")
    data = load_data(ucr("GunPoint", "TRAIN"), "series-classification")
    with pytest.raises(ConfigError, match="patch_pooling=cls"):
        engine.task_for(base, data, {"patch_pooling": "cls"})
    with pytest.raises(ConfigError, match=r"window=20: .* was read whole"):
        engine.task_for(base, data, {"window": 20})
    windows = load_data(ucr("GunPoint", "TRAIN"), "series-classification", options={"window": 20, "stride": 50})
    assert engine.task_for(base, windows).preprocessing.form == "windows"
    with pytest.raises(ConfigError, match="in windows of 20 steps"):
        engine.task_for(base, windows, {"window": 21})
    with pytest.raises(ConfigError, match="was cut into windows when it was read, and whole series are needed here"):
        engine.task_for(base, data).encode(windows, base)
    with pytest.raises(ConfigError, match=r"window=20: .* was read whole; .* with its own load_data"):
        engine.task_for(base, windows).encode(data, base)
    with pytest.raises(ConfigError, match="resample='stretch'"):
        engine.task_for(base, data, {"resample": "stretch"})


def test_channels_of_new_data_are_checked(engine: Engine, series_base: Bases, ucr: Files) -> None:
    base = engine.load_base(series_base("apart"), dtype="float32", device="cpu")
    one = load_data(ucr("GunPoint", "TRAIN"), "series-classification")
    task = engine.task_for(base, one)
    with pytest.raises(DataError, match=r"BasicMotions_TEST\.ts, row 1 .*6 channels where the training data had 1"):
        task.encode(load_data(ucr("BasicMotions", "TEST"), "series-classification"), base)
    table = [{"label": "ab"[i % 2], "x": [1.0 * i, 2, 3], "y": [3.0, 2, i]} for i in range(4)]
    other = [{"label": "ab"[i % 2], "x": [1.0 * i, 2, 3], "z": [3.0, 2, i]} for i in range(4)]
    task = engine.task_for(base, load_data(table, "series-classification"))
    with pytest.raises(DataError, match="its channels are x, z, and those of the training data were x, y"):
        task.encode(load_data(other, "series-classification"), base)


def test_series_given_in_python(engine: Engine, series_base: Bases, ucr: Files) -> None:
    base = engine.load_base(series_base("apart"), dtype="float32", device="cpu")
    task = engine.task_for(base, load_data(ucr("BasicMotions", "TRAIN"), "series-classification"))
    assert task.item([[0, None, 1, 2, 3, 4]], 0).shape == (1, 6)
    for wrong, message in (
        (np.zeros((6, 100)), r"input 4: is of shape \(6, 100\); give \(time, 6\)"),
        (np.zeros(10), r"shape \(10, 1\)"),
        (np.zeros((0, 6)), r"shape \(0, 6\)"),
        (np.full((5, 6), np.nan), "holds no value"),
        (np.full((5, 6), np.inf), "holds infinite values"),
        ("abc", "not an array of numbers"),
    ):
        with pytest.raises(ConfigError, match=message):
            task.item(wrong, 3)
    data = load_data(ucr("GunPoint", "TRAIN"), "series-classification", options={"window": 4, "stride": 50})
    task = engine.task_for(base, data)
    np.testing.assert_array_equal(task.item(range(9), 0)[:, 0], [5, 6, 7, 8])
    np.testing.assert_array_equal(task.item([7, 8], 0)[:, 0], [7, 7, 7, 8])


def test_a_record_that_was_never_written(engine: Engine, series_base: Bases, ucr: Files) -> None:
    base = engine.load_base(series_base("apart"), dtype="float32", device="cpu")
    data = load_data(ucr("GunPoint", "TRAIN"), "series-classification")
    task = engine.task_for(base, data)
    record = task.preprocessing.record()
    assert type(task)(data.labels, Preprocessing.from_record(record)).preprocessing == task.preprocessing
    facts = record["facts"]["series"]
    for change in (
        {"spread": [0.0]}, {"mean": [float("nan")]}, {"mean": [1.0, 2.0]}, {"channels": []}, {"channels": "x"},
        {"steps": 10**12}, {"steps": True}, {"apart": 7}, {"patches": 0}, {"more": 1},
    ):  # fmt: skip
        bad = Preprocessing.from_record({**record, "facts": {"series": {**facts, **change}}})
        with pytest.raises(AdapterCorruptError, match=r"facts\.series is not understood"):
            type(task)(data.labels, bad)
    with pytest.raises(AdapterCorruptError):
        type(task)(data.labels, Preprocessing.from_record({**record, "facts": {}}))


def test_load_base_without_an_engine(series_base: Bases) -> None:
    base = load_base(series_base("mixer"), device="cpu", foreign=Foreign(describe=adapterhub_describe_model))
    assert base.processor is None
    assert base.map.modality == "series"
