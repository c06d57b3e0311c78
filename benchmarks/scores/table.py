"""The rows of the table, the bars they are held against, and the points of the curves."""

from __future__ import annotations

from benchmarks.scores.jobs import MINILM, Files, Job

SETS = ("ACSF1", "BasicMotions", "GunPoint", "ItalyPowerDemand", "JapaneseVowels")
BARS = {
    "banking77": "LoRA or full at least 0.942, the probe at least 0.929 (Casanueva et al. 2020: BERT-base in full 0.937)",
    "banking77, 10 per class": "the best strategy at least 0.865",
    "snips": "at least 0.985",
    "unfair_tos": "macro-F1 above TF-IDF with logistic regression on the same company folds (0.835)",
    "bccd": "macro-F1 at least 0.985, the random-weights control far below",
    "cmapss": "RMSE at most 15",
    "instruct_rasbt": "held-out loss no worse than TRL's SFTTrainer with PEFT at the same rank, tokens and updates",
    **{f"ucr_uea, {name}": "not below 1-NN DTW" for name in SETS},
}
HELD = (
    "banking77 | linear_probe, classes weighed",
    "banking77 | lora r16, 8 epochs, float32",
    "banking77, 10 per class | full from the probe's head, names learnt",
    "snips | lora r16, 2 epochs",
    "unfair_tos | full, 1 epoch",
    "unfair_tos | TF-IDF and logistic regression",
    "bccd | linear_probe",
    "bccd | full from scratch",
    "bccd | linear_probe | 9 labels",
    "bccd | full from scratch | 9 labels",
    "cmapss | full",
    "cmapss | full | 10 labels",
    "cmapss | full from scratch | 10 labels",
    "cmapss | full | 25 labels",
    "cmapss | full from scratch | 25 labels",
    *(f"ucr_uea, {name} | {way}" for name in SETS for way in ("linear_probe", "1-NN DTW")),
    "instruct_rasbt | adapterhub-lite, lora r16",
    "instruct_rasbt | TRL and PEFT, lora r16",
)
"""What is held against the bars, and what they are relative to; these have three seeds or more, where there is chance in them."""
COMPARED = ("full", "full from scratch", "full from scratch, lr 1e-3")
CHANGING = tuple(f"sensor_{number}" for number in (2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21))
CURVES = {
    "banking77": ("labels (all 77 classes)", "accuracy", True),
    "bccd": ("labelled cells", "macro-F1", True),
    "cmapss": ("engines run to failure, of 100", "RMSE (cycles)", False),
}
"""By data: what is counted, what is measured, and whether more of it is better."""

PROBE = ["--strategy", "linear_probe"]
LORA = ["--strategy", "lora", "--set", "rank=16", "--batch-size", "32", "--lr", "1e-3", "--start-head", "random"]
FULL = ["--strategy", "full", "--batch-size", "32", "--start-head", "random"]
SCRATCH = [*FULL, "--from-scratch"]
NAMES = ["--task-set", "learn_names=true"]
FROM_PROBE = ["--start-head", "probe", "--start-penalty", "3e-3"]
FEW = [*FULL, "--lr", "5e-5", "--epochs", "10", *FROM_PROBE, *NAMES]
MANY = [*FULL, "--lr", "1e-4", "--epochs", "6", "--start-head", "probe", *NAMES]
EXACT = ["--dtype", "float32"]
EVEN = ["--class-weights", "balanced"]  # the intents of banking77 are even in the test file and uneven in the other
MOST = [*FULL, "--lr", "2e-4", "--epochs", "4", "--start-head", "probe", *NAMES, *EVEN, "--average"]
FEW_LORA = [*LORA, "--lr", "5e-4", *FROM_PROBE, *NAMES]
FEW_PREFIX = ["--strategy", "prefix", "--batch-size", "32", *FROM_PROBE, *NAMES]
BANKING_CLASSES, BCCD_CLASSES = 77, 3


def jobs(files: Files) -> list[Job]:
    """All of them."""
    return [
        *banking(files),
        *snips(files),
        *unfair(files),
        *bccd(files),
        *engines(files),
        *sensors(files),
        *chat(files),
    ]


def banking(files: Files) -> list[Job]:
    """Bank intents with all labels and with few."""
    text = ["--base", MINILM, "--task", "text-classification"]
    text += ["--data", f"{files.data}/banking77/train.csv", "--eval-data", f"{files.data}/banking77/test.csv"]
    scratch = [*SCRATCH, "--lr", "5e-4"]
    few = {
        "linear_probe": PROBE,
        "linear_probe, names learnt": [*PROBE, *NAMES],
        "full from the probe's head, names learnt": FEW,
        "lora r16 from the probe's head": [*FEW_LORA, "--epochs", "10"],
        "prefix from the probe's head": [*FEW_PREFIX, "--epochs", "10"],
        "full from a random head": [*FULL, "--lr", "2e-4", "--epochs", "20"],
        "full from scratch": [*scratch, "--epochs", "30"],
    }
    jobs = [
        Job("banking77", "linear_probe", "accuracy", [*text, *PROBE], labels=10003),
        Job("banking77", "linear_probe, classes weighed", "accuracy", [*text, *PROBE, *EVEN]),
        Job("banking77", "full from the probe's head, names learnt", "accuracy", [*text, *MANY], labels=10003),
        Job(
            "banking77",
            "full from the probe's head, names learnt, classes weighed, float32",
            "accuracy",
            [*text, *MANY, *EVEN, *EXACT],
        ),
        Job(
            "banking77",
            "full from the probe's head, names learnt, classes weighed, averaged, float32",
            "accuracy",
            [*text, *MOST, *EXACT],
            seeds=1,
        ),
        Job("banking77", "lora r16, 8 epochs", "accuracy", [*text, *LORA, "--epochs", "8"], seeds=1),
        Job("banking77", "lora r16, 8 epochs, float32", "accuracy", [*text, *LORA, "--epochs", "8", *EXACT]),
        Job(
            "banking77",
            "lora r16, classes weighed, 8 epochs, float32",
            "accuracy",
            [*text, *LORA, "--epochs", "8", *EVEN, *EXACT],
        ),
        Job(
            "banking77", "lora r16 from the probe's head", "accuracy", [*text, *FEW_LORA, "--epochs", "4"], labels=10003
        ),
        Job(
            "banking77", "prefix from the probe's head", "accuracy", [*text, *FEW_PREFIX, "--epochs", "4"], labels=10003
        ),
        Job(
            "banking77",
            "lora r16 from the probe's head, names learnt, classes weighed, 8 epochs, float32",
            "accuracy",
            [*text, *LORA, "--epochs", "8", "--start-head", "probe", *NAMES, *EVEN, *EXACT],
        ),
        Job("banking77", "full from scratch", "accuracy", [*text, *scratch, "--epochs", "6"], labels=10003),
    ]
    for way, options in few.items():
        chosen = [*text, "--shots", "10", *options]
        jobs.append(Job("banking77, 10 per class", way, "accuracy", chosen, labels=10 * BANKING_CLASSES))
    for shots, epochs in ((5, "40"), (20, "20"), (50, "10")):
        curves = {
            "linear_probe": PROBE,
            "full from the probe's head, names learnt": FEW,
            "lora r16 from the probe's head": [*FEW_LORA, "--epochs", "10"],
            "prefix from the probe's head": [*FEW_PREFIX, "--epochs", "10"],
            "full from scratch": [*scratch, "--epochs", epochs],
        }
        for way, options in curves.items():
            chosen = [*text, "--shots", str(shots), *options]
            jobs.append(Job("banking77", way, "accuracy", chosen, labels=shots * BANKING_CLASSES, curve=True))
    return jobs


def snips(files: Files) -> list[Job]:
    """Seven intents of a voice assistant."""
    text = ["--base", MINILM, "--task", "text-classification", "--column", "label=intent"]
    text += ["--data", f"{files.data}/snips/train.tsv", "--eval-data", f"{files.data}/snips/test.tsv"]
    return [
        Job("snips", "linear_probe", "accuracy", [*text, *PROBE]),
        Job("snips", "lora r16, 2 epochs", "accuracy", [*text, *LORA, "--epochs", "2"]),
        Job("snips", "full from the probe's head, names learnt", "accuracy", [*text, *MANY, "--epochs", "3"]),
    ]


def unfair(files: Files) -> list[Job]:
    """Unfair clauses of companies that were not learnt from; a score is the mean of five folds."""
    made = f"{files.made}/unfair_tos"
    text = ["--base", MINILM, "--task", "text-classification", "--data", f"{made}/{{fold}}/train.csv"]
    text += ["--eval-data", f"{made}/{{fold}}/test.csv", "--column", "label=unfair", "--max-length", "128"]
    folds = tuple("01234")
    baseline = ["-m", "benchmarks.scores.baselines", "tfidf", f"{made}/{{fold}}/train.csv", f"{made}/{{fold}}/test.csv"]
    tuned = [*FULL, "--lr", "1.5e-4", "--epochs"]
    return [
        Job("unfair_tos", "TF-IDF and logistic regression", "macro_f1", baseline, folds, seeds=1),
        Job("unfair_tos", "linear_probe", "macro_f1", [*text, *PROBE], folds, seeds=1),
        Job("unfair_tos", "full, 1 epoch", "macro_f1", [*text, *tuned, "1"], folds),
        Job("unfair_tos", "full, 3 epochs", "macro_f1", [*text, *tuned, "3"], folds, seeds=1),
    ]


def bccd(files: Files) -> list[Job]:
    """Blood cells, cut out of microscope pictures."""
    cells = f"{files.data}/bccd/bccd_crops64.npz"
    image = ["--base", f"{files.models}/mobilenet_v2", "--task", "image-classification"]
    image += ["--data", f"{cells}#train", "--eval-data", f"{cells}#test"]
    plain = ["-m", "benchmarks.scores.baselines", "scratch", f"{cells}#train", f"{cells}#test", image[1]]
    step = ["--batch-size", "32", "--start-head", "probe", "--steps", "60"]
    lora = ["--strategy", "lora", "--set", "rank=8", "--lr", "1e-3", *step]
    full = ["--strategy", "full", "--lr", "1e-4", *step]
    scratch = [*SCRATCH, "--lr", "1e-3"]
    jobs = [
        Job("bccd", "linear_probe", "macro_f1", [*image, *PROBE], labels=1014),
        Job("bccd", "lora r8 from the probe's head", "macro_f1", [*image, *lora], labels=1014),
        Job("bccd", "full from the probe's head", "macro_f1", [*image, *full], labels=1014),
        Job("bccd", "full from scratch", "macro_f1", [*image, *scratch, "--epochs", "4"], labels=1014),
        Job("bccd", "from scratch in plain PyTorch", "macro_f1", plain, seeds=1),
    ]
    for shots in (3, 10, 30, 100):
        ways = {
            "linear_probe": PROBE,
            "lora r8 from the probe's head": lora,
            "full from the probe's head": full,
            "full from scratch": [*scratch, "--steps", "60"],
        }
        for way, options in ways.items():
            chosen = [*image, "--shots", str(shots), *options]
            jobs.append(Job("bccd", way, "macro_f1", chosen, labels=shots * BCCD_CLASSES, curve=True))
    return jobs


def engines(files: Files) -> list[Job]:
    """Cycles that a turbofan has left, from its last 60; sensors that never change are left out."""
    made = f"{files.made}/cmapss"
    series = ["--base", f"{files.made}/bases/cmapss", "--task", "series-regression", "--data", f"{made}/train.csv"]
    series += ["--eval-data", f"{made}/test.csv", "--column", "series=unit", "--column", "time=cycle"]
    series += ["--column", "target=RUL", "--column", f"channels={','.join(CHANGING)}", "--task-set", "target_cap=125"]
    series += ["--task-set", "window=60", "--task-set", "stride=2", "--task-set", "last_only=true"]
    series += ["--task-set", "patch_pooling=last"]
    steps = {100: "600", 25: "300", 10: "200"}
    jobs = []
    for percent, count in steps.items():
        step = ["--batch-size", "32", "--schedule", "cosine", "--steps", count]
        ways = {
            "linear_probe": PROBE,
            "full": ["--strategy", "full", "--lr", "5e-4", *step],
            "full from the probe's head": ["--strategy", "full", "--lr", "5e-4", *step, "--start-head", "probe"],
            "lora r8": ["--strategy", "lora", "--set", "rank=8", "--lr", "3e-3", *step],
            "prefix": ["--strategy", "prefix", *step],
            "full from scratch": ["--strategy", "full", "--from-scratch", "--lr", "2e-3", *step],
            "full from scratch, lr 1e-3": ["--strategy", "full", "--from-scratch", "--lr", "1e-3", *step],
        }
        for way, options in ways.items():
            chosen = [*series, *([] if percent == 100 else ["--fraction", str(percent / 100)]), *options]
            # Which engines are drawn matters more than the way, so that few seeds would say nothing.
            seeds = 10 if percent < 100 and way in COMPARED else 3
            jobs.append(Job("cmapss", way, "rmse", chosen, labels=percent, curve=percent < 100, seeds=seeds))
    return jobs


def sensors(files: Files) -> list[Job]:
    """Five sets of sensor readings, each with the one base that saw the unlabelled training series of all."""
    jobs = []
    for name in SETS:
        folder = f"{files.data}/ucr_uea/{name}"
        train, test = f"{folder}/{name}_TRAIN.ts", f"{folder}/{name}_TEST.ts"
        series = ["--base", f"{files.made}/bases/ucr", "--task", "series-classification", "--data", train]
        series += ["--eval-data", test, "--task-set", "patch_pooling=mean+max"]
        step = ["--batch-size", "16", "--schedule", "cosine", "--steps", "300"]
        ways = {
            "linear_probe": PROBE,
            "full": ["--strategy", "full", "--lr", "1e-3", *step],
            "lora r8": ["--strategy", "lora", "--set", "rank=8", "--lr", "3e-3", *step],
            "full from scratch": ["--strategy", "full", "--from-scratch", "--lr", "1e-3", *step],
            "linear_probe on random weights": [*PROBE, "--base", f"{files.made}/bases/ucr-random"],
        }
        data = f"ucr_uea, {name}"
        jobs.append(
            Job(data, "1-NN DTW", "accuracy", ["-m", "benchmarks.scores.baselines", "dtw", train, test], seeds=1)
        )
        jobs += [Job(data, way, "accuracy", [*series, *options]) for way, options in ways.items()]
    return jobs


def chat(files: Files) -> list[Job]:
    """Instructions for a chat model in 4 bits, by us and by TRL; needs TRL."""
    made = files.made
    given = [f"{made}/bases/smollm2", f"{made}/instruct/train.jsonl", f"{made}/instruct/test.jsonl", "--seed", "{seed}"]
    ways = {
        "adapterhub-lite, lora r16": "adapterhub",
        "TRL and PEFT, lora r16": "trl",
        "TRL and PEFT, lora r16, on the same batches": "trl-same-order",
    }
    # The order of the rows moves a run by a hundredth, so that three seeds do not tell the programs apart.
    return [
        Job(
            "instruct_rasbt", way, "loss", ["-m", "benchmarks.scores.chat", by, *given], seeds=3 if "same" in way else 6
        )
        for way, by in ways.items()
    ]
