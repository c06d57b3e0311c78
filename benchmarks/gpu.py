"""Everything worth measuring on a GPU, in one run of some minutes: are the numbers right, what does it cost, who is faster.

    python -m benchmarks.gpu --out FOLDER [--seconds 420] [--rows loss,speed-1b] [--small]

Bases are Llamas of random weights made on the spot, so that nothing is fetched; what they cost does not depend on what they
have learnt. Each row of the report stands alone: it has a minute, what it raises is written down, and the next one goes
on, in a fresh process where the last one broke the device. OUT/gpu.json is rewritten after every row, and the rows come in
the order of their weight, so that a run that is cut off loses the least. With TRL installed its trainer is run beside ours on
the same token ids, turn by turn. `--small` is for trying the script out, on a CPU too.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

import adapterhub_lite as ah
from adapterhub_lite.interrupt import Interrupt, Stopped
from adapterhub_lite.progress import Silent

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROW_SECONDS = 90
TURN_SECONDS = 60
"""After which no further turn of a row is begun."""
BROKEN = 3
"""Exit code of a process whose device no longer answers."""
VERSIONS = ("adapterhub-lite", "torch", "transformers", "peft", "bitsandbytes", "accelerate", "trl", "triton")
WORDS = 900
RANK = {"rank": 16}


@dataclass(frozen=True)
class Shape:
    """A Llama."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    tied: bool = True


TINY = Shape(256, 3, 4, 2, 512, 1024)
MIDDLE = Shape(1024, 8, 16, 4, 2816, 32000)
SHAPES = {
    "1b": Shape(2048, 16, 32, 8, 8192, 128256),
    "3b": Shape(3072, 28, 24, 8, 8192, 128256),
    "8b": Shape(4096, 32, 32, 8, 14336, 128256, tied=False),
}


@dataclass(frozen=True)
class Setting:
    """Where rows write, and whether they are only tried out."""

    out: Path
    small: bool


# --- bases, data and runs ---------------------------------------------------------------------------------------------


@cache
def tokenizer() -> Any:
    """A tokenizer of whole words, made in code, so that the number of tokens of a text is the number of its words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    names = ["<unk>", "<pad>", "<eos>", *(f"w{number}" for number in range(WORDS))]
    made = Tokenizer(WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    made.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>", model_max_length=4096
    )


def texts(lengths: list[int], seed: int = 0) -> list[dict[str, str]]:
    """Texts of so many tokens each, the end counted; which words come how often differs, so that there is something to learn."""
    draw = random.Random(seed)
    weights = [1 / (1 + number) for number in range(WORDS)]
    words = [f"w{number}" for number in range(WORDS)]
    return [{"text": " ".join(draw.choices(words, weights, k=length - 1))} for length in lengths]


def ids_of(rows: list[dict[str, str]], most: int) -> list[list[int]]:
    """The ids that our causal-lm makes of the texts."""
    return [(tokenizer()(row["text"])["input_ids"] + [tokenizer().eos_token_id])[:most] for row in rows]


def llama(shape: Shape, dtype: torch.dtype, *, sharp: bool = False) -> Any:
    """A Llama of random weights on the device."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.inner,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        max_position_embeddings=4096, tie_word_embeddings=shape.tied, pad_token_id=1, eos_token_id=2, bos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(DEVICE):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    if sharp:  # logits of some units, as those of a trained model have, so that losses tell differences
        with torch.no_grad():
            model.get_input_embeddings().weight.mul_(6)
    return model


def four_bit(model: Any, dtype: torch.dtype) -> Any:
    """The same model with the linear layers of its blocks in NF4, as transformers loads them, made where it is."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    for path, module in list(model.named_modules()):
        if type(module) is not torch.nn.Linear or path == "lm_head":
            continue
        made = Linear4bit(
            module.in_features, module.out_features, bias=False, compute_dtype=dtype, quant_type="nf4", device="meta"
        )
        weight = Params4bit(module.weight.data, requires_grad=False, quant_type="nf4", module=made)
        made.weight = weight.to(DEVICE)
        model.set_submodule(path, made)
    model.is_loaded_in_4bit = True
    return model


def folder_of(setting: Setting, name: str, shape: Shape, dtype: torch.dtype) -> str:
    """A base saved as any is."""
    folder = setting.out / f"base-{name}"
    if not (folder / "config.json").is_file():
        llama(shape, dtype, sharp=True).save_pretrained(folder)
        tokenizer().save_pretrained(folder)
    return str(folder)


class Watch(Silent):
    """Keeps what is said, and the moment each step ends; `at` is called with the number of the step."""

    def __init__(self, at: Callable[[int], None] | None = None):
        self.lines: list[str] = []
        self.moments: list[float] = []
        self.at = at

    def say(self, line: str) -> None:
        self.lines.append(line)

    @contextmanager
    def bar(self, name: str, total: float, unit: str, rate: str = "") -> Iterator[Any]:
        yield self if name == "training" else Watch()

    def advance(self, amount: float, note: str = "", work: float | None = None) -> None:
        self.moments.append(time.perf_counter())
        if self.at is not None:
            self.at(len(self.moments))


def fresh() -> None:
    """Give memory back and count anew."""
    gc.collect()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def memory() -> dict[str, float]:
    """Gigabytes (1e9) of the device at the worst moment since `fresh`."""
    if DEVICE != "cuda":
        return {}
    peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    return {"peak_gb": round(peak / 1e9, 3), "reserved_gb": round(reserved / 1e9, 3)}


def resident() -> float:
    """Gigabytes allocated now."""
    return round(torch.cuda.memory_allocated() / 1e9, 3) if DEVICE == "cuda" else 0.0


def rate(moments: list[float], tokens: float) -> dict[str, float]:
    """Median of the steps after the third, and tokens a second by it."""
    steps = [later - earlier for earlier, later in pairwise(moments)][2:]
    if not steps:
        return {}
    middle = statistics.median(steps)
    return {
        "step_ms": round(middle * 1e3, 2),
        "fastest_ms": round(min(steps) * 1e3, 2),
        "tokens_per_s": round(tokens / middle),
    }


def digest(adapter: Any, folder: Path) -> str:
    """SHA-256 of an adapter's tensors as saved."""
    adapter.save(folder)
    return hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()


@dataclass
class Run:
    """A training of ours: the adapter, and what was seen of it."""

    adapter: Any
    losses: list[float]
    watch: Watch
    cost: dict[str, float]


_made = iter(range(10**6))


def ours(
    setting: Setting, base: Any, rows: list[dict[str, str]], *, strategy: str = "lora", settings: Any = None,
    task: str = "causal-lm", options: Any = None, at: Callable[[int], None] | None = None, folder: Path | None = None,
    interrupt: Interrupt | None = None, resume: bool = False, **train: Any,
) -> Run:  # fmt: skip
    """Train once."""
    watch = Watch(at)
    engine = ah.Engine(progress=watch)
    folder = folder or setting.out / "runs" / f"run-{os.getpid()}-{next(_made)}"
    data = engine.load_data(rows, task)
    fresh()
    adapter = engine.train(
        base, data, strategy=strategy, settings=(RANK if strategy == "lora" else {}) if settings is None else settings,
        config=ah.TrainConfig(**train), task_options=options, run_folder=folder, interrupt=interrupt, resume=resume,
    )  # fmt: skip
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return Run(adapter, [line["loss"] for line in log if "loss" in line], watch, memory())


def difference(one: list[float], other: list[float]) -> float:
    """The largest relative one."""
    return max(abs(a - b) / max(abs(a), 1e-12) for a, b in zip(one, other, strict=True))


def in_memory(shape: Shape, dtype: torch.dtype = torch.bfloat16, *, nf4: bool = True) -> Any:
    """A base of ours made on the spot."""
    from adapterhub_lite.base.loading import adopt

    model = llama(shape, dtype)
    model = four_bit(model, dtype) if nf4 else model
    fresh()
    return adopt(model, tokenizer(), quantization="nf4" if nf4 else "none")


# --- are the numbers right --------------------------------------------------------------------------------------------


def row_environment(setting: Setting) -> Any:
    """What this runs on."""
    measured = table({"python": sys.version.split()[0], "versions": {}})
    for name in VERSIONS:
        try:
            measured["versions"][name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            measured["versions"][name] = None
    if DEVICE == "cuda":
        facts = torch.cuda.get_device_properties(0)
        measured |= {"device": facts.name, "memory_gb": round(facts.total_memory / 1e9, 1), "cuda": torch.version.cuda}
        measured["driver"] = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version,clocks.sm,clocks.max.sm,power.limit", "--format=csv,noheader"],
            capture_output=True, text=True, check=False,
        ).stdout.strip()  # fmt: skip
    measured["strategies"] = len(ah.strategies())
    return measured


def row_loss(setting: Setting) -> Any:
    """The loss at step 0 in every precision, and NF4 against the weights it stands for, computed in fp32."""
    from bitsandbytes.nn import Linear4bit
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    folder = folder_of(setting, "middle", TINY if setting.small else MIDDLE, torch.float32)
    rows = texts([100] * 8)
    measured = table()
    for quantization, dtype in (
        ("none", "float32"), ("none", "bfloat16"), ("none", "float16"), ("nf4", "bfloat16"), ("nf4", "float32"),
        ("fp4", "bfloat16"), ("int8", "float16"),
    ):  # fmt: skip
        name = f"{quantization} {dtype}"
        try:
            base = ah.Engine(progress=Watch()).load_base(folder, quantization=quantization, dtype=dtype)
            run = ours(setting, base, rows, steps=1, batch_size=8)
            run.adapter.detach()
            measured[name] = run.losses[0]
            if name != "nf4 float32":
                continue
            for path, module in list(base.model.named_modules()):
                if isinstance(module, Linear4bit):
                    dense = torch.nn.Linear(module.in_features, module.out_features, bias=False, device=DEVICE)
                    dense.weight = torch.nn.Parameter(dequantize_bnb_weight(module.weight).float(), requires_grad=False)
                    base.model.set_submodule(path, dense)
            inputs = torch.tensor(ids_of(rows, 100), device=DEVICE)
            with torch.no_grad():
                measured["weights nf4 stands for, float32"] = float(base.model(input_ids=inputs, labels=inputs).loss)
        except Exception as error:
            measured[name] = brief(error)
    return measured


def row_gradients(setting: Setting) -> Any:
    """Gradients of the same adapter on the same base in fp32, here and on the CPU."""
    folder = folder_of(setting, "tiny", TINY, torch.float32)
    rows = texts([40, 25, 33, 12])
    measured = table()
    for strategy in ("lora", "prefix", "full"):
        engine = ah.Engine(progress=Watch())
        start = engine.load_base(folder, dtype="float32", device="cpu")
        trained = ours(setting, start, rows, strategy=strategy, steps=3, batch_size=4)
        saved = setting.out / f"gradients-{strategy}"
        trained.adapter.save(saved)
        trained.adapter.detach()
        seen: dict[str, Any] = {}
        for device in ("cpu", DEVICE):
            adapter = engine.load_adapter(saved, base=engine.load_base(folder, dtype="float32", device=device))
            attachment = adapter.attachment
            examples = attachment.task.encode(adapter.load_data(rows), adapter.base).examples
            with attachment.training():
                batch = attachment.task.collate(examples, adapter.base)
                logits, targets = attachment.logits(
                    {key: value.to(adapter.base.device) for key, value in batch.items()}
                )
                loss = attachment.task.losses(logits, targets).mean()
                loss.backward()
            seen[device] = (
                float(loss),
                {n: p.grad.detach().cpu() for n, p in attachment.tensors.items() if p.grad is not None},
            )
        worst = max(
            float((a - seen[DEVICE][1][name]).norm() / a.norm().clamp(min=1e-30)) for name, a in seen["cpu"][1].items()
        )
        measured[strategy] = {
            "losses": [seen["cpu"][0], seen[DEVICE][0]], "tensors": len(seen["cpu"][1]), "worst_relative_difference": worst,
        }  # fmt: skip
    return measured


def row_strategies(setting: Setting) -> Any:
    """Every built-in strategy trains on the device, for a language model and for a classifier, in NF4 and without."""
    folder = folder_of(setting, "tiny", TINY, torch.float32)
    tokens = texts([40, 25, 33, 12] * 8)
    labelled = [{"text": row["text"], "label": "ab"[number % 2]} for number, row in enumerate(texts([20, 9] * 16, 1))]
    measured = table()
    for quantization in ("none", "nf4"):
        base = ah.Engine(progress=Watch()).load_base(folder, quantization=quantization, dtype="bfloat16")
        for strategy in ("lora", "prefix", "linear_probe", "full", "peft:ia3"):
            if strategy == "full" and quantization != "none":
                continue
            for task, rows in (("causal-lm", tokens), ("text-classification", labelled)):
                name = f"{strategy}, {quantization}, {task}"
                try:
                    run = ours(
                        setting, base, rows, strategy=strategy, task=task, steps=24, batch_size=8, learning_rate=5e-3
                    )
                    losses = run.losses
                    measured[name] = [losses[0], statistics.mean(losses[-4:])] if losses else dict(run.adapter.training)
                    measured[name] = {"losses": measured[name], "evaluated": run.adapter.evaluate(rows).metrics["loss"]}
                    run.adapter.detach()
                except Exception as error:
                    measured[name] = brief(error)
    return measured


def row_packing(setting: Setting) -> Any:
    """The same losses with several examples in a row and with one."""
    folder = folder_of(setting, "tiny", TINY, torch.float32)
    rows = texts([random.Random(2).randint(5, 90) for _ in range(64)])
    measured = table()
    for dtype in ("float32", "bfloat16"):
        base = ah.Engine(progress=Watch()).load_base(folder, dtype=dtype)
        losses = []
        for packing in (False, True):
            options = {"packing": packing, "max_length": 256}
            run = ours(setting, base, rows, options=options, steps=6, batch_size=16)
            run.adapter.detach()
            losses.append(run.losses)
        measured[dtype] = {"worst_relative_difference": difference(*losses), "losses": losses}
    return measured


def row_little_memory(setting: Setting) -> Any:
    """A third of the memory for activations: the micro-batch halves, the losses stay (fp32, no dropout)."""
    if DEVICE != "cuda":
        return {"skipped": "no CUDA device"}
    folder = folder_of(setting, "middle", MIDDLE, torch.float32)
    rows = texts([300] * 48)
    base = ah.Engine(progress=Watch()).load_base(folder, dtype="float32")
    options = {"max_length": 512}
    free = ours(setting, base, rows, steps=5, batch_size=16, options=options)
    free.adapter.detach()
    weights, total = resident(), torch.cuda.get_device_properties(0).total_memory / 1e9
    torch.cuda.set_per_process_memory_fraction((weights + (free.cost["peak_gb"] - weights) / 3) / total)
    try:
        tight = ours(setting, base, rows, steps=5, batch_size=16, options=options)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    return {
        "said": tight.watch.lines, "worst_relative_difference": difference(free.losses, tight.losses),
        "losses": [free.losses, tight.losses], "weights_gb": weights, "free": free.cost, "tight": tight.cost,
    }  # fmt: skip


def row_resume(setting: Setting) -> Any:
    """Stopped after step 4 of 8 and gone on with: the adapter of a run never stopped, bit for bit."""
    folder = folder_of(setting, "tiny", TINY, torch.float32)
    rows = texts([40, 25, 33, 12] * 8)
    measured = table()
    for quantization, optimizer in (
        ("none", "adamw"),
        ("nf4", "adamw"),
        ("nf4", "adamw_8bit"),
        ("nf4", "paged_adamw_8bit"),
    ):
        try:
            base = ah.Engine(progress=Watch()).load_base(folder, quantization=quantization, dtype="bfloat16")
            same = {
                "steps": 8, "batch_size": 8, "checkpoint_every": 2, "optimizer": optimizer,
                "settings": {**RANK, "dropout": 0.1},
            }  # fmt: skip
            whole = ours(setting, base, rows, **same)
            name = f"{quantization}-{optimizer}"
            first = digest(whole.adapter, setting.out / f"whole-{name}")
            whole.adapter.detach()
            interrupt, where = Interrupt(), setting.out / "runs" / f"stopped-{name}"

            def stop(step: int, interrupt: Interrupt = interrupt) -> None:
                interrupt.received = signal.SIGTERM if step == 4 else interrupt.received

            try:
                ours(setting, base, rows, at=stop, interrupt=interrupt, folder=where, **same)
                stopped = False
            except Stopped:
                stopped = True
            rest = ours(setting, base, rows, folder=where, resume=True, **same)
            second = digest(rest.adapter, setting.out / f"rest-{name}")
            rest.adapter.detach()
            measured[f"{quantization}, {optimizer}"] = {
                "stopped": stopped, "same_bits": first == second, "same_log": whole.losses == rest.losses,
            }  # fmt: skip
        except Exception as error:
            measured[f"{quantization}, {optimizer}"] = brief(error)
    return measured


def row_twice(setting: Setting) -> Any:
    """The same run twice gives the same bits; with checkpointed and with offloaded activations too."""
    folder = folder_of(setting, "tiny", TINY, torch.float32)
    rows = texts([40, 25, 33, 12] * 8)
    measured = table({"deterministic": torch.are_deterministic_algorithms_enabled()})
    for quantization, dtype in (("none", "float32"), ("nf4", "bfloat16")):
        base = ah.Engine(progress=Watch()).load_base(folder, quantization=quantization, dtype=dtype)
        for strategy in ("lora", "prefix", "full"):
            if strategy == "full" and quantization != "none":
                continue
            digests = []
            variants: tuple[dict[str, bool], ...] = (
                {},
                {},
                {"activation_checkpointing": True},
                {"activation_offload": True},
            )
            try:
                for more in variants:
                    run = ours(setting, base, rows, strategy=strategy, steps=6, batch_size=8, **more)
                    digests.append(digest(run.adapter, setting.out / "twice" / f"{os.getpid()}-{next(_made)}"))
                    run.adapter.detach()
                names = ("again", "checkpointed", "offloaded")
                same = {name: digests[0] == other for name, other in zip(names, digests[1:], strict=True)}
                measured[f"{strategy}, {quantization} {dtype}"] = same
            except Exception as error:
                measured[f"{strategy}, {quantization} {dtype}"] = brief(error)
    return measured


def row_deterministic(setting: Setting) -> Any:
    """As `row_twice`, with torch's deterministic algorithms alone allowed."""
    torch.use_deterministic_algorithms(True)
    return row_twice(setting)


def row_save_load(setting: Setting) -> Any:
    """Saved and loaded: the same bits in the tensors, the same outputs, the probe replayed."""
    folder = folder_of(setting, "tiny", TINY, torch.float32)
    rows = texts([40, 25, 33, 12] * 8)
    measured = table()
    for quantization in ("none", "nf4"):
        base = ah.Engine(progress=Watch()).load_base(folder, quantization=quantization, dtype="bfloat16")
        for strategy in ("lora", "prefix", "linear_probe", *(("full",) if quantization == "none" else ())):
            try:
                run = ours(setting, base, rows, strategy=strategy, steps=6, batch_size=8)
                where = setting.out / f"saved-{strategy}-{quantization}"
                first, before = digest(run.adapter, where), run.adapter.evaluate(rows).metrics["loss"]
                run.adapter.detach()
                loaded = ah.Engine(progress=Watch()).load_adapter(where, base=base)
                after = loaded.evaluate(rows).metrics["loss"]
                second = digest(loaded, setting.out / f"again-{strategy}-{quantization}")
                loaded.detach()
                measured[f"{strategy}, {quantization}"] = {
                    "same_bits": first == second, "same_loss": before == after, "losses": [before, after],
                }  # fmt: skip
            except Exception as error:
                measured[f"{strategy}, {quantization}"] = brief(error)
    return measured


def row_generate(setting: Setting) -> Any:
    """Generation with a cache of keys and values gives the tokens that it gives without one."""
    folder = folder_of(setting, "tiny", TINY, torch.float32)
    rows = texts([40, 25, 33, 12] * 8)
    measured = table()
    for quantization in ("none", "nf4"):
        base = ah.Engine(progress=Watch()).load_base(folder, quantization=quantization, dtype="float32")
        for strategy in ("lora", "prefix", "full"):
            if strategy == "full" and quantization != "none":
                continue
            try:
                run = ours(setting, base, rows, strategy=strategy, steps=6, batch_size=8, learning_rate=3e-3)
                run.adapter.use()
                inputs = torch.tensor([ids_of(rows, 9)[1]], device=base.device)
                options = {
                    "attention_mask": torch.ones_like(inputs), "do_sample": False, "min_new_tokens": 24,
                    "max_new_tokens": 24, "output_scores": True, "return_dict_in_generate": True,
                }  # fmt: skip
                one, other = (base.model.generate(input_ids=inputs, use_cache=u, **options) for u in (True, False))
                apart = max(
                    float((a - b)[a.isfinite()].abs().max()) for a, b in zip(one.scores, other.scores, strict=True)
                )
                text = run.adapter.generate(rows[0]["text"][:30], max_new_tokens=8)
                run.adapter.detach()
                measured[f"{strategy}, {quantization}"] = {
                    "same_tokens": torch.equal(one.sequences, other.sequences), "scores_apart": apart, "words": len(text.split()),
                }  # fmt: skip
            except Exception as error:
                measured[f"{strategy}, {quantization}"] = brief(error)
    return measured


def row_optimizers(setting: Setting) -> Any:
    """Every optimizer makes the loss fall."""
    folder = folder_of(setting, "tiny", TINY, torch.float32)
    base = ah.Engine(progress=Watch()).load_base(folder, quantization="nf4", dtype="bfloat16")
    measured = table()
    for optimizer in ("adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"):
        try:
            run = ours(
                setting, base, texts([40, 25] * 16), steps=16, batch_size=8, optimizer=optimizer, learning_rate=3e-3
            )
            run.adapter.detach()
            measured[optimizer] = [run.losses[0], run.losses[-1]]
        except Exception as error:
            measured[optimizer] = brief(error)
    return measured


# --- what it costs, and beside TRL ------------------------------------------------------------------------------------


def theirs(
    setting: Setting, model: Any, ids: list[list[int]], *, batch: int, steps: int, checkpointing: bool, **more: Any
) -> dict[str, Any]:
    """TRL's SFTTrainer on PEFT's LoRA: bf16, fused AdamW, the same ids in the same batches."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    moments: list[float] = []
    at = more.pop("at", None)

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            moments.append(time.perf_counter())
            if at is not None:
                at(len(moments))

    options = {"max_length": max(map(len, ids)), "gradient_checkpointing_kwargs": {"use_reentrant": False}, **more}
    arguments = SFTConfig(
        output_dir=str(setting.out / "trl"), per_device_train_batch_size=batch, max_steps=steps, bf16=True,
        optim="adamw_torch_fused", learning_rate=1e-4, gradient_checkpointing=checkpointing, logging_steps=10**6,
        report_to="none", save_strategy="no", disable_tqdm=True, use_cpu=DEVICE == "cpu", **options,
    )  # fmt: skip
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    fresh()
    trainer = SFTTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_dict({"input_ids": ids}), processing_class=tokenizer(),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules=targets, task_type="CAUSAL_LM"), callbacks=[Clock()],
    )  # fmt: skip
    loss = trainer.train().training_loss
    tokens = sum(map(len, ids)) / len(ids) * batch
    return {**rate(moments, tokens), **memory(), "loss": round(loss, 4)}


def sizes(setting: Setting, name: str) -> tuple[Shape, int]:
    """Which model, and how many tokens a row."""
    return (TINY, 64) if setting.small else (SHAPES[name], 2048)


def side_by_side(setting: Setting, name: str, *, rounds: int, steps: int, batch: int = 2) -> Any:
    """NF4 and LoRA of rank 16 on every linear layer: ours and TRL's, turn by turn, with and without checkpointing."""
    shape, length = sizes(setting, name)
    rows = texts([length] * batch * 4)
    measured = table({"tokens_a_step": batch * length})
    start = time.monotonic()
    for turn in range(rounds):
        if turn and time.monotonic() - start > TURN_SECONDS * (1 - 1 / (turn + 1)):
            break
        base = in_memory(shape)
        for checkpointing in (False, True):
            try:
                run = ours(
                    setting, base, rows, options={"max_length": length}, steps=steps, batch_size=batch,
                    activation_checkpointing=checkpointing, learning_rate=1e-4,
                )  # fmt: skip
                seen: dict[str, Any] = {
                    **rate(run.watch.moments, batch * length), **run.cost,
                    "loss": round(statistics.mean(run.losses), 4), "said": run.watch.lines,
                }  # fmt: skip
                run.adapter.detach()
                del run
            except Exception as error:
                seen = brief(error)
            measured.setdefault("ours, checkpointing" if checkpointing else "ours, plain", []).append(seen)
            fresh()
        del base
        fresh()
        for checkpointing in (False, True):
            model = four_bit(llama(shape, torch.bfloat16), torch.bfloat16)
            try:
                seen = theirs(
                    setting, model, ids_of(rows, length), batch=batch, steps=steps, checkpointing=checkpointing
                )
            except Exception as error:
                seen = brief(error)
            measured.setdefault("trl, checkpointing" if checkpointing else "trl, plain", []).append(seen)
            del model
            fresh()
    for key, turns in list(measured.items()):
        speeds = [turn["tokens_per_s"] for turn in turns if "tokens_per_s" in turn] if isinstance(turns, list) else []
        if speeds:
            measured[f"{key}: median tokens_per_s"] = statistics.median(speeds)
    return measured


def row_speed_1b(setting: Setting) -> Any:
    """1.2 billion weights."""
    return side_by_side(setting, "1b", rounds=3, steps=12)


def row_speed_3b(setting: Setting) -> Any:
    """3.2 billion weights."""
    return side_by_side(setting, "3b", rounds=1, steps=9)


def row_speed_8b(setting: Setting) -> Any:
    """8 billion weights."""
    return side_by_side(setting, "8b", rounds=1, steps=8)


def row_profile(setting: Setting) -> Any:
    """Where the time of one step goes, ours and TRL's, and where ours makes the host wait."""
    from torch.profiler import ProfilerActivity, profile

    shape, length = sizes(setting, "1b")
    rows = texts([length] * 8)
    waits: Counter[str] = Counter()
    held: dict[str, Any] = {}

    def at(step: int) -> None:
        if step == 5:
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            held["profile"] = profile(
                activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if DEVICE == "cuda" else [])]
            )
            held["profile"].__enter__()
        if step == 6:
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            held["profile"].__exit__(None, None, None)
        if DEVICE == "cuda":
            torch.cuda.set_sync_debug_mode("warn" if step == 7 else "default")

    def told() -> dict[str, Any]:
        events = held.pop("profile").key_averages()
        kind = "self_device_time_total" if DEVICE == "cuda" else "self_cpu_time_total"
        kernels = [event for event in events if str(event.device_type).endswith("CUDA")]
        counted = (
            "_local_scalar_dense",
            "cudaStreamSynchronize",
            "cudaDeviceSynchronize",
            "cudaLaunchKernel",
            "nonzero",
        )
        return {
            "device_ms": round(sum(event.self_device_time_total for event in kernels) / 1e3, 2),
            "kernels": sum(event.count for event in kernels),
            "calls": {event.key: event.count for event in events if event.key.removeprefix("aten::") in counted},
            "by_kernel": [
                [event.key[:110], round(event.self_device_time_total / 1e3, 3), event.count]
                for event in sorted(kernels, key=lambda event: -event.self_device_time_total)[:20]
            ],
            "by_operator": [
                [event.key[:60], round(getattr(event, kind) / 1e3, 3), event.count]
                for event in sorted(events, key=lambda event: -getattr(event, kind))
                if event not in kernels
            ][:20],
        }

    base = in_memory(shape)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = ours(setting, base, rows, options={"max_length": length}, steps=8, batch_size=2, at=at)
    for warning in caught:
        if "synchroniz" in str(warning.message):
            waits["/".join(Path(warning.filename).parts[-3:]) + f":{warning.lineno}"] += 1
    measured = table({"ours": told(), "host_waits_in_a_step": dict(waits), "waits": sum(waits.values())})
    run.adapter.detach()
    del run, base
    fresh()
    waits.clear()
    try:
        model = four_bit(llama(shape, torch.bfloat16), torch.bfloat16)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            theirs(setting, model, ids_of(rows, length), batch=2, steps=8, checkpointing=False, at=at)
        measured["trl"] = told()
        measured["trl_waits"] = sum("synchroniz" in str(warning.message) for warning in caught)
    except Exception as error:
        measured["trl"] = brief(error)
    return measured


def row_variants(setting: Setting) -> Any:
    """What would change the speed of ours: TF32, and the adapter in bf16 as TRL keeps it."""
    from adapterhub_lora.strategy import Lora

    shape, length = sizes(setting, "1b")
    rows, options = texts([length] * 8), {"max_length": length}
    attach = Lora.attach

    def in_half(self: Any, view: Any, config: Any) -> Any:
        parameters = attach(self, view, config)
        for parameter in parameters.values():
            parameter.data = parameter.data.bfloat16()
        return parameters

    measured = table()
    base = in_memory(shape)
    for name in ("as it is", "tf32", "adapter in bf16", "attention only", "offload", "checkpointing + offload"):
        try:
            torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
            Lora.attach = in_half if name == "adapter in bf16" else attach  # type: ignore[method-assign]
            run = ours(
                setting, base, rows, options=options, steps=8, batch_size=2, learning_rate=1e-4,
                settings={**RANK, **({"targets": "attention"} if name == "attention only" else {})},
                activation_offload="offload" in name, activation_checkpointing="checkpointing" in name,
            )  # fmt: skip
            run.adapter.detach()
            measured[name] = {
                **rate(run.watch.moments, 2 * length),
                **run.cost,
                "loss": round(statistics.mean(run.losses), 4),
            }
            del run
        except Exception as error:
            measured[name] = brief(error)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False
            Lora.attach = attach  # type: ignore[method-assign]
    return measured


def row_liger(setting: Setting) -> Any:
    """TRL with Liger's kernels, which it puts into the classes of the models for good: in a process of its own."""
    shape, length = sizes(setting, "1b")
    ids = ids_of(texts([length] * 8), length)
    measured = table()
    for checkpointing in (False, True):
        model = four_bit(llama(shape, torch.bfloat16), torch.bfloat16)
        measured["checkpointing" if checkpointing else "plain"] = theirs(
            setting, model, ids, batch=2, steps=8, checkpointing=checkpointing, use_liger_kernel=True
        )
        del model
        fresh()
    return measured


def row_ragged(setting: Setting) -> Any:
    """Rows of many lengths, 16 a step: padded and packed, ours and TRL's (whose flattened rows want FlashAttention)."""
    shape, most = (TINY, 64) if setting.small else (SHAPES["1b"], 1024)
    draw = random.Random(3)
    rows = texts([max(8, min(most, int(draw.lognormvariate(5.0 if most > 64 else 2.5, 0.8)))) for _ in range(16 * 12)])
    ids = ids_of(rows, most)
    mean = sum(map(len, ids)) / len(ids)
    measured = table({"tokens_a_row": {"mean": mean, "most": max(map(len, ids))}})
    for packing in (False, True):
        try:
            base = in_memory(shape)
            run = ours(
                setting, base, rows, options={"max_length": most, "packing": packing}, steps=11, batch_size=16,
                learning_rate=1e-4,
            )  # fmt: skip
            key = "ours, packed" if packing else "ours, padded"
            measured[key] = {**overall(run.watch.moments, mean * 16), **run.cost, "said": run.watch.lines}
            run.adapter.detach()
            del run, base
        except Exception as error:
            measured[f"ours, packing={packing}"] = brief(error)
        fresh()
    for name, more in (("trl, padded", {}), ("trl, padding-free", {"padding_free": True, "max_length": None})):
        try:
            model = four_bit(llama(shape, torch.bfloat16), torch.bfloat16)
            moments: list[float] = []
            seen = theirs(
                setting, model, ids, batch=16, steps=11, checkpointing=False,
                at=lambda step, moments=moments: moments.append(time.perf_counter()), **more,
            )  # fmt: skip
            measured[name] = {**seen, **overall(moments, mean * 16)}
            del model
        except Exception as error:
            measured[name] = brief(error)
        fresh()
    return measured


def overall(moments: list[float], tokens: float) -> dict[str, float]:
    """Tokens a second over the steps after the third, where steps differ in size."""
    kept = moments[2:]
    return {"tokens_per_s": round(tokens * (len(kept) - 1) / (kept[-1] - kept[0]))} if len(kept) > 1 else {}


def row_load(setting: Setting) -> Any:
    """A base of 1.2 billion weights from its files: quantized the first time, ready the second; and full bf16."""
    shape = TINY if setting.small else SHAPES["1b"]
    folder = setting.out / "base-1b"
    began = time.monotonic()
    llama(shape, torch.bfloat16).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    measured = table({"saving_s": round(time.monotonic() - began, 2)})
    for name, quantization in (("nf4, first", "nf4"), ("nf4, again", "nf4"), ("none", "none")):
        fresh()
        began = time.monotonic()
        base = ah.Engine(progress=Watch()).load_base(str(folder), quantization=quantization, dtype="bfloat16")
        measured[name] = {"seconds": round(time.monotonic() - began, 2), **memory(), "resident_gb": resident()}
        if name == "nf4, again":
            run = ours(setting, base, texts([128] * 4), steps=2, batch_size=2)
            measured["trained on it"] = run.losses
            run.adapter.detach()
            del run
        del base
    return measured


def row_full_1b(setting: Setting) -> Any:
    """All weights of 1.2 billion in bf16, and LoRA on the unquantized base."""
    shape, length = sizes(setting, "1b")
    rows, measured = texts([length] * 8), table()
    for strategy, optimizer in (("lora", "adamw"), ("full", "adamw"), ("full", "adamw_8bit")):
        base = in_memory(shape, nf4=False)
        try:
            run = ours(
                setting, base, rows, strategy=strategy, options={"max_length": length}, steps=7, batch_size=2,
                optimizer=optimizer, learning_rate=1e-5,
            )  # fmt: skip
            measured[f"{strategy}, {optimizer}"] = {
                **rate(run.watch.moments, 2 * length),
                **run.cost,
                "losses": run.losses,
            }
            run.adapter.detach()
            del run
        except Exception as error:
            measured[f"{strategy}, {optimizer}"] = brief(error)
        del base
        fresh()
    return measured


# --- the run of the rows ----------------------------------------------------------------------------------------------

ROWS: dict[str, Callable[[Setting], Any]] = {
    "environment": row_environment,
    "loss": row_loss,
    "gradients": row_gradients,
    "speed-1b": row_speed_1b,
    "little-memory": row_little_memory,
    "resume": row_resume,
    "twice": row_twice,
    "packing": row_packing,
    "save-load": row_save_load,
    "generate": row_generate,
    "strategies": row_strategies,
    "profile": row_profile,
    "speed-8b": row_speed_8b,
    "variants": row_variants,
    "ragged": row_ragged,
    "load": row_load,
    "optimizers": row_optimizers,
    "speed-3b": row_speed_3b,
    "deterministic": row_deterministic,
    "full-1b": row_full_1b,
    "liger": row_liger,
}
OWN_PROCESS = {"deterministic": {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}, "liger": {}}
"""Rows that change the process they run in, and the environment that they need before torch starts."""


_table: dict[str, Any] = {}


def table(start: dict[str, Any] | None = None) -> dict[str, Any]:
    """Where a row puts what it finds: kept also where the row is cut off."""
    global _table
    _table = start or {}
    return _table


def brief(error: BaseException) -> dict[str, Any]:
    """What was raised and where, innermost last."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:600]}", "where": where[-9:]}


class TooLong(BaseException):
    """A row used up its time."""


def _too_long(number: int, frame: Any) -> None:
    raise TooLong


def run_rows(setting: Setting, names: list[str], deadline: float) -> int:
    """Run rows in this process, each written down as it ends; returns the exit code."""
    report = setting.out / "gpu.json"
    signal.signal(signal.SIGALRM, _too_long)
    for name in names:
        left = deadline - time.time()
        if left < 8:
            return 0
        signal.alarm(max(1, int(min(left, ROW_SECONDS))))
        began, result = time.monotonic(), {}
        table()
        print(f"{name} ...", end=" ", flush=True)
        try:
            result = {"found": ROWS[name](setting)}
        except (TooLong, Exception) as error:
            result = {**brief(error), "found": _table}
        finally:
            signal.alarm(0)
        result["seconds"] = round(time.monotonic() - began, 1)
        kept = json.loads(report.read_text())
        kept["rows"][name] = result
        report.write_text(json.dumps(kept, indent=1, default=str))
        print(result["seconds"], result.get("error", ""), flush=True)
        try:
            fresh()
        except Exception as error:
            print("the device no longer answers:", error, flush=True)
            return BROKEN
    return 0


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of gpu.json")
    parser.add_argument("--work", type=Path, help="folder for everything else; OUT/work by default")
    parser.add_argument("--seconds", type=float, default=420)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--here", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = arguments.rows.split(",")
    if arguments.here is not None:
        sys.exit(run_rows(Setting(arguments.out, arguments.small), names, arguments.here))
    deadline = time.time() + arguments.seconds
    work = arguments.work or arguments.out / "work"
    work.mkdir(parents=True, exist_ok=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    report = work / "gpu.json"
    report.write_text(json.dumps({"when": datetime.now(UTC).isoformat(timespec="seconds"), "rows": {}}))
    environment = {
        **os.environ,
        "ADAPTERHUB_CACHE": str(work / "cache"),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
    }
    while names and deadline - time.time() > 15:
        first = names[0]
        own = OWN_PROCESS.get(first)
        group = [first] if own is not None else [name for name in names if name not in OWN_PROCESS]
        command = [sys.executable, __file__, "--out", str(work), "--rows", ",".join(group), "--here", str(deadline)]
        child = subprocess.Popen(
            [*command, *(["--small"] if arguments.small else [])], env={**environment, **(own or {})}
        )
        while child.poll() is None:
            time.sleep(0.3)
            if time.time() > deadline + 10:
                child.kill()
            (arguments.out / "gpu.json").write_bytes(report.read_bytes())
        done = json.loads(report.read_text())
        names = [name for name in names if name not in done["rows"]]
        unfinished = next((name for name in group if name not in done["rows"]), None)
        if child.returncode not in (0, BROKEN) and unfinished is not None:
            done["rows"][unfinished] = {"error": f"the process ended with {child.returncode}"}
            report.write_text(json.dumps(done, indent=1))
            names.remove(unfinished)
        elif child.returncode == 0 and unfinished == first:
            break  # no time was left to begin it
    (arguments.out / "gpu.json").write_bytes(report.read_bytes())


if __name__ == "__main__":
    main()
