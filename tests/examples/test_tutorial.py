"""Every command and every block of code of docs/write-a-strategy.md, in the order in which they stand there."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[2] / "docs" / "write-a-strategy.md"
# An instruction for this test in a comment, or a fenced block with the instruction that stands before it.
STEP = re.compile(
    r"(?:<!-- (?P<note>[^>]*?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```|<!-- (?P<alone>undo) -->", re.DOTALL
)


@dataclass(frozen=True)
class Step:
    note: str
    language: str
    text: str


def steps() -> list[Step]:
    matches = STEP.finditer(TUTORIAL.read_text(encoding="utf-8"))
    return [Step(m["note"] or m["alone"] or "", m["language"] or "", m["text"] or "") for m in matches]


def test_the_tutorial_as_it_stands(environment, tmp_path):
    folder, undo, outputs = tmp_path, None, []
    for step in steps():
        instruction, _, argument = step.note.partition(": ")
        if step.note.startswith("run: no") or step.language == "text":
            continue
        if step.note == "undo":
            path, before = undo
            path.write_text(before, encoding="utf-8")
        elif instruction == "file":
            path = folder / argument
            path.write_text(step.text, encoding="utf-8")
        elif instruction == "append":
            path = folder / argument
            path.write_text(path.read_text(encoding="utf-8") + step.text, encoding="utf-8")
        elif instruction == "replace":
            name, _, line = argument.partition(": ")
            path = folder / name
            undo = path, path.read_text(encoding="utf-8")
            assert undo[1].count(line) == 1
            path.write_text(undo[1].replace(line, step.text.strip()), encoding="utf-8")
        elif step.language == "python":
            done = environment.run(f"{environment.folder / 'bin' / 'python'} -c {shlex.quote(step.text)}", at=folder)
            outputs.append(done.stdout)
        else:
            assert step.language == "sh"
            for command in step.text.strip().splitlines():
                if command.startswith("cd "):
                    folder = folder / command.removeprefix("cd ")
                    continue
                # The network is not what is tested: the backend is there, and so is what the package depends on.
                if command.startswith("pip install -e"):
                    command += " --no-build-isolation --no-index --quiet"
                if command.startswith("python -m build"):
                    command += " --no-isolation"
                if command == "pip install build":
                    continue
                code = int(argument) if instruction == "exit" else 0
                outputs.append(environment.run(command, at=folder, code=code).stdout)
    said = "\n".join(outputs)
    assert "adapterhub-lite-shift" in said
    assert "gradient" in said, "the kit saw the mistake of step 4"
    assert "card\n" in said, "the adapter predicts"
    assert "0.50 of the shifts are zero" in said, "the schedule of step 8 was followed"
    assert list((folder / "dist").glob("adapterhub_lite_shift-0.1.0-*.whl"))
    again = environment.run("pip uninstall --quiet --yes adapterhub-lite-shift && adapterhub-lite predict my-adapter "
                            "--data intents.csv --out again.csv", at=folder, code=1)  # fmt: skip
    (promised,) = [s.text for s in steps() if s.text.startswith("adapter needs strategy")]
    assert promised.split(";")[0].rstrip(")") in again.stderr  # a version may follow the distribution
    assert promised.strip().rpartition("; ")[2] in again.stderr


@pytest.mark.parametrize(
    "document", ["write-a-strategy.md", "strategy-protocols.md", "plugins-may-and-may-not.md", "hooks.md"]
)
def test_links_lead_somewhere(document):
    file = TUTORIAL.parent / document
    for target in re.findall(r"\]\(([^)#:]+)\)", file.read_text(encoding="utf-8")):
        assert (file.parent / target).exists(), target
