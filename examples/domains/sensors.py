"""Motions, gun draws, power use, vowels: one small pre-trained base against the nearest neighbour by time warping.

    python examples/domains/sensors.py --data FOLDER --out FOLDER --base BASE

FOLDER holds NAME/NAME_TRAIN.ts and NAME/NAME_TEST.ts. BASE is what `python -m benchmarks.pretrain_series --kind ucr` writes.
What lies in --out already is not done again. Run it in a checkout: the neighbour is `benchmarks.scores.baselines`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import adapterhub_lite as ah

SETS = ("BasicMotions", "GunPoint", "ItalyPowerDemand", "JapaneseVowels")


def main() -> None:
    """Train and measure what is missing, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the folders of the sets")
    parser.add_argument("--out", type=Path, required=True, help="where adapters and the plot go")
    parser.add_argument("--base", type=Path, required=True, help="folder of the pre-trained PatchTST")
    parser.add_argument("--sets", default=",".join(SETS), help="names, separated by commas [default: %(default)s]")
    parser.add_argument("--steps", type=int, default=300, help="of training all weights [default: %(default)s]")
    arguments = parser.parse_args()
    out, names = arguments.out, arguments.sets.split(",")
    out.mkdir(parents=True, exist_ok=True)

    base = ah.load_base(str(arguments.base))
    random = ah.load_base(f"scratch:0:{arguments.base}")
    config = ah.TrainConfig(learning_rate=1e-3, steps=arguments.steps, batch_size=16, schedule="cosine")
    ways = {
        "probe": ("linear probe, pre-trained", base, "linear_probe"),
        "random": ("linear probe, random weights", random, "linear_probe"),
        "scratch": ("random weights, all trained", random, "full"),
    }
    scores: dict[str, dict[str, list[float]]] = {}
    for name in names:
        train, test = (arguments.data.resolve() / name / f"{name}_{part}.ts" for part in ("TRAIN", "TEST"))
        data = ah.load_data(train, "series-classification", options={"patch_pooling": "mean+max"})
        for way, (title, start, strategy) in ways.items():
            folder = out / f"{name}-{way}"
            if not folder.exists():
                adapter = ah.train(start, data, strategy=strategy, eval_data=test, config=config)
                adapter.save(folder)
                adapter.detach()
            metrics = json.loads((folder / "adapterhub.json").read_text(encoding="utf-8"))["metrics"]
            ends = [metrics["accuracy"], metrics["accuracy_low"], metrics["accuracy_high"]]
            scores.setdefault(title, {})[name] = ends
        known = out / f"{name}-dtw.json"
        if not known.is_file():
            command = [sys.executable, "-m", "benchmarks.scores.baselines", "dtw", str(train), str(test)]
            said = subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True, text=True)
            known.write_text(said.stdout)
        accuracy = json.loads(known.read_text())["metrics"]["accuracy"]
        scores.setdefault("nearest neighbour, DTW", {})[name] = [accuracy, accuracy, accuracy]

    print(f"{'':30}" + "".join(f"{name:>20}" for name in names))
    for title, row in scores.items():
        print(f"{title:30}" + "".join(f"{row[name][0]:20.3f}" for name in names))
    draw(scores, names, out / "sensors.png")


def draw(scores: dict[str, dict[str, list[float]]], names: list[str], path: Path) -> None:
    """Accuracy by set, with the 95 % intervals of the adapters."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.5, 3.6), layout="constrained")
    for number, (title, row) in enumerate(scores.items()):
        at = [x + 0.2 * (number - 1.5) for x in range(len(names))]
        middle = [row[name][0] for name in names]
        # At 1.0 the upper end may fall short of it by rounding.
        ends = [[abs(row[name][end] - row[name][0]) for name in names] for end in (1, 2)]
        bars = axes.bar(at, middle, 0.19, label=title, yerr=ends, capsize=2, error_kw={"linewidth": 0.8})
        axes.bar_label(bars, fmt="%.2f", fontsize=7, label_type="center", color="white")
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel="accuracy on the test series", ylim=(0, 1.05))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=2, fontsize=8, frameon=False)
    figure.savefig(path, dpi=80)
    print(f"drew {path}")


if __name__ == "__main__":
    main()
