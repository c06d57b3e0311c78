"""Damaged bases and run files by the thousand: each ends in success or in one line that names the file and the cure.

    python -m benchmarks.fuzz --count 2000 --out benchmarks/FUZZ.md

A mutant is one file of a tiny base (configuration, generation configuration, tokenizer, index, template, the header of
weights or of GGUF) or a run file, changed in one way. A base is loaded, asked for a task, run, trained for a step and, where
it continues text, asked to. Work is done in a process of its own, which is given up and begun anew where a mutant hangs or
kills it: both are faults.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from adapterhub_lite.errors import AdapterHubError

HANGS_AFTER = 60.0
"""Seconds without an answer, on a busy machine."""
MEMORY = 12 << 30
NAMED = (
    "chat template",
    "no row has anything left",  # of a template that leaves everything out
    "another base, whose weights may be damaged",
    "a plug-in can describe it",  # a model of no layers
    "no language-modelling head",
)
"""What errors say that name no file, because it cannot be known which it was."""
CHATS = [{"messages": [{"role": "user", "content": "the card"}, {"role": "assistant", "content": "is here"}]}] * 2
ROWS = [{"text": text, "label": label} for text, label in [("good money", "good"), ("bad card", "bad")] * 2]


def main() -> int:
    """Run the mutants that are asked for, print what became of them, and exit with 1 where any of it must not happen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--out", type=Path, help="write the summary to this file")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work is not None:
        return attack(given.work, range(given.first, given.first + given.count))
    started = time.monotonic()
    results = list(collect(given.first, given.count))
    summary = summarize(results, time.monotonic() - started)
    print(summary)
    for result in results:
        if result["became"] not in ("success", "error"):
            print(json.dumps(result, indent=1))
    if given.out is not None:
        command = "python -m benchmarks.fuzz " + " ".join(sys.argv[1:])
        given.out.write_text(f"# Damaged bases and run files\n\n    {command}\n\n{summary}\n", encoding="utf-8")
    return int(any(result["became"] not in ("success", "error") for result in results))


def collect(first: int, count: int) -> Iterator[dict[str, Any]]:
    """Results of the mutants from `first` on, from as many processes as it takes."""
    done = first
    with tempfile.TemporaryDirectory() as folder:
        while done < first + count:
            command = [sys.executable, "-m", "benchmarks.fuzz", "--first", str(done), "--work", folder]
            worker = subprocess.Popen(
                [*command, "--count", str(first + count - done)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert worker.stdout is not None
            assert worker.stderr is not None
            said: list[str] = []
            threading.Thread(target=lambda stream=worker.stderr, said=said: said.extend(stream), daemon=True).start()
            while True:
                guard = threading.Timer(HANGS_AFTER if done else 4 * HANGS_AFTER, worker.kill)
                guard.start()
                line = worker.stdout.readline()
                guard.cancel()
                if not line:
                    break
                if line.startswith('{"seed"'):
                    yield json.loads(line)
                    done += 1
            code = worker.wait()
            if done < first + count:
                about = (Path(folder) / "now.json").read_text() if (Path(folder) / "now.json").exists() else "{}"
                became = "hung" if code == -9 else "killed"
                yield {
                    **json.loads(about),
                    "seed": done,
                    "became": became,
                    "said": f"exit {code}: {''.join(said)[-2000:]}",
                }
                done += 1


def attack(work: Path, seeds: range) -> int:
    """Print a line of JSON for every mutant."""
    from benchmarks.damaged_bases import build

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    bases = work / "bases"
    if not bases.exists():
        build(work / "made")
        (work / "made").rename(bases)
    for kind in ("decoder", "encoder", "image", "gguf"):
        use(bases / kind, kind)  # undamaged, and the libraries are warm
    shutil.rmtree(work / "sound", ignore_errors=True)
    run(write_run(work / "sound", bases, work), work / "sound")
    for seed in seeds:
        print(json.dumps(judge(seed, bases, work)), flush=True)
    return 0


def judge(seed: int, bases: Path, work: Path) -> dict[str, Any]:
    """Make one mutant, use it, and say what became of it."""
    from benchmarks.damaged_bases import damage, files_of

    chance = random.Random(seed)
    kind = chance.choice(["decoder", "decoder", "decoder", "encoder", "encoder", "image", "gguf", "run"])
    folder = work / "mutant"
    shutil.rmtree(folder, ignore_errors=True)
    if kind == "run":
        path = write_run(folder, bases, work)
    else:
        shutil.copytree(bases / kind, folder)
        path = chance.choice(files_of(folder))
    result = {"seed": seed, "kind": kind, "file": str(path.relative_to(folder)), "how": damage(path, chance)}
    (work / "now.json").write_text(json.dumps(result))
    started = time.process_time()
    try:
        run(path, folder) if kind == "run" else use(folder, kind)
    except AdapterHubError as error:
        said = str(error)
        named = any(name in said for name in (str(folder), path.name, *NAMED))
        named = named or kind == "run"
        result |= {
            "became": "error" if named and "\n" not in said else "unnamed",
            "said": f"{type(error).__name__}: {said}",
        }
    except Exception as error:
        where = "".join(traceback.format_exception(error))[-1500:]
        result |= {"became": "traceback", "said": f"{type(error).__name__}: {error}"[:300], "where": where}
    else:
        result["became"] = "success"
    result["seconds"] = round(time.process_time() - started, 2)
    return result


def write_run(folder: Path, bases: Path, work: Path) -> Path:
    """Write a run file that is sound, and the data it names."""
    import yaml

    from benchmarks.damaged_bases import RUN

    folder.mkdir()
    told = {"BASE": str(bases / "encoder"), "DATA": str(work / "data.jsonl"), "OUT": str(work / "out")}
    (work / "data.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    shutil.rmtree(work / "out", ignore_errors=True)
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump({key: told.get(str(value), value) for key, value in RUN.items()}))
    return path


def use(folder: Path, kind: str) -> None:
    """Load a base, and do with it what users do."""
    import adapterhub_lite as ah
    from adapterhub_lite.engine import Engine
    from adapterhub_lite.progress import Silent

    engine = Engine(progress=Silent())
    base = engine.load_base(str(folder), dtype="float32", device="cpu")
    config = ah.TrainConfig(steps=1, batch_size=2)
    if kind == "image":
        import numpy as np
        from PIL import Image

        pictures = folder.parent / "pictures"
        if not pictures.exists():
            for name, shade in (("a", 10), ("b", 200)):
                (pictures / name).mkdir(parents=True)
                for i in range(2):
                    Image.fromarray(np.full((16, 16, 3), shade + i, dtype=np.uint8)).save(pictures / name / f"{i}.png")
        data = engine.load_data(pictures, "image-classification")
    elif kind == "encoder":
        data = engine.load_data(ROWS, "text-classification")
    elif kind == "decoder":
        data = engine.load_data(CHATS, "causal-lm")
        engine.evaluate_base(base, data)
    else:
        data = engine.load_data([{"text": "the"}] * 2, "causal-lm")
    adapter = engine.train(base, data, strategy="lora", settings={"rank": 2}, config=config)
    if kind == "decoder":
        adapter.generate("the card", max_new_tokens=3)
    adapter.detach()


def run(path: Path, folder: Path) -> None:
    """Train by a run file, as the command line does."""
    from typer.testing import CliRunner

    from adapterhub_lite.cli import app

    outcome = CliRunner().invoke(app, ["train", "--config", str(path)])
    if outcome.exception is not None and not (
        isinstance(outcome.exception, SystemExit) and outcome.exit_code in (0, 2)
    ):
        raise outcome.exception


def summarize(results: list[dict[str, Any]], seconds: float) -> str:
    """The numbers as Markdown."""
    became = Counter(result["became"] for result in results)
    lines = [
        f"{len(results)} mutants in {seconds:.0f} s: "
        + ", ".join(f"{n} {name}" for name, n in became.most_common())
        + ".",
        f"Slowest: {max((result.get('seconds', 0) for result in results), default=0):.1f} s of CPU.",
        "",
        "| file | mutants | success | error | anything else |",
        "|---|---:|---:|---:|---:|",
    ]
    for file in sorted({(result.get("kind", "?"), result.get("file", "?")) for result in results}):
        of_it = [r["became"] for r in results if (r.get("kind", "?"), r.get("file", "?")) == file]
        good, errors = of_it.count("success"), of_it.count("error")
        lines.append(f"| {file[0]} {file[1]} | {len(of_it)} | {good} | {errors} | {len(of_it) - good - errors} |")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "tokenizers", "gguf"))
    lines += ["", f"Python {sys.version.split()[0]}, {versions}; {time.strftime('%Y-%m-%d')}."]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
