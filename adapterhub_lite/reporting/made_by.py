"""How it was made: the command, the run file, the options, versions, the data's hash, time and memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterhub_lite.names import human_size
from adapterhub_lite.pages.content import Content, Listing, Part, Table


def made_by(facts: Mapping[str, Any]) -> Part:
    """What someone needs who is to make it again."""
    run, machine, data, base = facts["run"], facts["machine"], facts["data"], facts["base"]
    content: list[Content] = []
    if run.get("command"):
        content.append(Listing("The command", run["command"]))
    if run.get("run_file"):
        content.append(Listing("The run, for `adapterhub-lite train --config`", run["run_file"].strip()))
    rows = [
        ("data", f"{data['source']}, SHA-256 {data['sha256']}" if data["source"] else None),
        ("held out", f"{data['held_out']}, SHA-256 {data['held_out_sha256']}" if data.get("held_out") else None),
        ("examples, SHA-256", run.get("examples_sha256")),
        ("base", base["reference"] + (f"@{base['revision']}" if base["revision"] else "")),
        ("base weights, SHA-256", base["weights"]),
        (
            "computed in",
            f"{base['dtype']}, quantization {base['quantization']}, on {machine.get('device') or 'not recorded'}",
        ),
        ("code", f"git {run['git_commit']}" if run.get("git_commit") else None),
    ]
    content.append(Table("Data and base", ("what", "which"), [row for row in rows if row[1]]))
    known = [(name, _plain(value)) for name, value in facts["training"].items() if _is_plain(value)]
    settings = [(name, _plain(value)) for name, value in facts["adapter"]["settings"].items() if _is_plain(value)]
    if settings:
        content.append(Table(f"Options of {facts['adapter']['strategy']}", ("option", "value"), settings))
    if known:
        content.append(Table("Training", ("option", "value"), known))
    versions = [(n, v) for n, v in run["versions"].items() if v]
    if versions:
        content.append(Table("Versions", ("library", "version"), versions))
    energy = machine.get("energy")
    took = [
        ("machine", machine.get("machine")),
        ("cores, and threads in use", f"{machine['cores']}, {machine['threads']}" if machine.get("cores") else None),
        ("accelerator", machine.get("accelerator")),
        ("training", f"{machine['seconds']:,} s" if machine.get("seconds") is not None else None),
        ("the run, with scoring", f"{machine['whole_seconds']:,.0f} s" if machine.get("whole_seconds") else None),
        ("most memory of the process", _bytes(machine.get("peak_memory"))),
        ("most memory of the accelerator", _bytes(machine.get("peak_accelerator_memory"))),
        (
            "energy",
            f"{energy:,.0f} J of the processors, other programs with it"
            if energy
            else "the machine does not tell"
            if machine.get("machine")
            else None,
        ),
    ]
    content.append(Table("What it took", ("what", "how much"), [row for row in took if row[1]]))
    return Part("How it was made", (), content)


def _bytes(size: int | None) -> str | None:
    return None if size is None else human_size(size)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool) or (
        isinstance(value, list) and all(isinstance(one, str | int | float) for one in value) and len(str(value)) < 200
    )


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        ", ".join(map(str, value)) or "none"
        if isinstance(value, list)
        else f"{value:g}"
        if (isinstance(value, float))
        else str(value)
    )
