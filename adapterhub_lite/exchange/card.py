"""The model card of an adapter: what it does, on which base, trained on what, how well, and what it cannot do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

import yaml

from adapterhub_lite.names import scores_shown
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.storage import Manifest
from adapterhub_lite.tasks.catalog import Catalog

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SHOWN_LABELS = 100
_WORST = 5
HUB_LICENCES = frozenset({
    "afl-3.0", "agpl-3.0", "apache-2.0", "apple-amlr", "apple-ascl", "artistic-2.0", "bigcode-openrail-m",
    "bigscience-bloom-rail-1.0", "bigscience-openrail-m", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear",
    "bsl-1.0", "c-uda", "cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0",
    "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0",
    "cdla-sharing-1.0", "creativeml-openrail-m", "deepfloyd-if-license", "ecl-2.0", "epl-1.0", "epl-2.0",
    "etalab-2.0", "eupl-1.1", "eupl-1.2", "fair-noncommercial-research-license", "gemma", "gfdl", "gpl", "gpl-2.0",
    "gpl-3.0", "grok2-community", "h-research", "intel-research", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0", "lgpl-lr",
    "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "lppl-1.3c", "mit", "mpl-2.0", "ms-pl", "ncsa",
    "odbl", "odc-by", "ofl-1.1", "openmdw-1.0", "openrail", "openrail++", "osl-3.0", "pddl", "postgresql",
    "unlicense", "wtfpl", "zlib",
})  # fmt: skip
"""The ids that the Hugging Face hub takes for the licence of a model (hub documentation, "Licenses")."""
_ALSO_CALLED = {
    "apache": "apache-2.0", "apache-license-2.0": "apache-2.0", "apache-2": "apache-2.0",
    "apache-license-version-2.0": "apache-2.0", "apache-software-license": "apache-2.0", "mit-license": "mit",
    "bsd-license": "bsd", "isc-license-iscl": "isc", "the-unlicense-unlicense": "unlicense",
    "mozilla-public-license-2.0-mpl-2.0": "mpl-2.0",
}  # fmt: skip


def model_card(manifest: Manifest, *, peft: bool, licence: str | None, figures: Mapping[str, Any] | None = None) -> str:
    """Return README.md for an adapter: front matter that hubs read, then Markdown that people read.

    Args:
        manifest: Of the adapter. Its text is quoted, never taken for Markdown; of paths only the last part is shown.
        peft: Whether PEFT can open the adapter by itself.
        licence: Of the base, where it is known.
        figures: Of the report that its run left, if it did: baselines, and scores by class.
    """
    base, task, data, made_by = manifest.base, manifest.task, manifest.data, manifest.strategy
    pipeline = _pipeline_tag(task.name)
    front: dict[str, Any] = {
        "library_name": "peft" if peft else "adapterhub-lite",
        "pipeline_tag": pipeline,
        "tags": ["adapterhub-lite", "adapter", manifest.strategy.name],
    }
    hub_id = base_hub_id(manifest)
    if hub_id is not None:
        front["base_model"] = hub_id
    front |= licence_fields(licence)
    size = sum(file.size for file in manifest.files.values())
    labels = ", ".join(_quote(label) for label in task.labels[:_SHOWN_LABELS])
    more = f" and {len(task.labels) - _SHOWN_LABELS} more" if len(task.labels) > _SHOWN_LABELS else ""
    title = f"{pipeline} adapter for {_name(base.reference)}"
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        "",
        f"# {_plain(title)}",
        "",
        f"An adapter of {size / 1e6:.1f} MB made by adapterhub-lite. It works on its base alone.",
        "",
        "## What it is",
        "",
        f"- **Task**: {_plain(task.name)}",
        *([f"- **Labels** ({len(task.labels)}): {labels}{more}"] if task.labels else []),
        f"- **Strategy**: {_quote(made_by.name)} of {_quote(made_by.dist)} {_plain(made_by.version)}",
        f"- **Base**: {_quote(_name(base.reference))}, {base.parameters:,} weights; quantization: {base.quantization}",
        f"- **Fingerprint of the base**: weights {_quote(base.fingerprint.weights[:16])}, "
        f"architecture {_quote(base.fingerprint.architecture[:16])}",
        f"- **Licence of the base**: {_plain(licence) if licence else 'unknown; ask its authors before you use it'}",
        "",
        "## Data",
        "",
        f"{data.rows:,} rows of {_quote(_name(data.source))}, SHA-256 {_quote(data.sha256)}."
        if data is not None
        else "Not recorded.",
        "",
        "## Held-out scores",
        "",
        *_table(manifest.metrics),
        *_of_report(figures or {}),
        "",
        "## Limits",
        "",
        "- It has been tested on data like its training data only; measure it on yours before you rely on it.",
        *(["- It answers with one of its labels whatever it is given, also where none fits."] if task.labels else []),
        *(["- What it generates may be false or offensive, as with its base."] if not task.labels else []),
        "- What its base has learnt wrongly, biases included, it has too.",
        *(f"- Checks overruled when it was made: {_plain(difference)}" for difference in manifest.forced),
        "",
        "## Use",
        "",
        "```sh",
        "pip install adapterhub-lite",
        "adapterhub-lite pull THIS-REPOSITORY my-adapter",
        "adapterhub-lite verify my-adapter",
        "```",
        "",
    ]
    return "\n".join(lines)


def _pipeline_tag(task: str) -> str:
    """What hubs call a task: what it says itself, where it is installed, else its name."""
    offered = Catalog(Plugins()).offered
    return next((known.spec.pipeline_tag for known in offered if known.recorded == task), None) or task


def base_hub_id(manifest: Manifest) -> str | None:
    """The hub id of the base, where its reference is one; without a revision."""
    reference = manifest.base.reference.partition("@")[0]
    # With a revision on record it came from a hub; without one a folder may be called org/name as well.
    return reference if _HUB_ID.fullmatch(reference) is not None and manifest.base.revision is not None else None


def licence_fields(licence: str | None) -> dict[str, str]:
    """A licence as hubs take it: one of their own ids, or "other" with its name; nothing for an unknown one."""
    if licence is None:
        return {}
    name = re.sub(r"[^a-z0-9.+]+", "-", licence.strip().lower()).strip("-")
    name = _ALSO_CALLED.get(name, re.sub(r"-(only|or-later)$", "", name))
    return {"license": name} if name in HUB_LICENCES else {"license": "other", "license_name": name or "unnamed"}


def local_licence(reference: str) -> str | None:
    """The licence of a base that is on this machine: from its model card, or from the metadata of its wheel."""
    if reference.startswith("pypi:"):
        try:
            about = metadata.metadata(reference.removeprefix("pypi:"))
        except (metadata.PackageNotFoundError, ValueError):
            return None
        for key in ("License-Expression", "License"):
            value = (about.get_all(key) or [None])[0]
            if value and len(value) < 60 and "\n" not in value:
                return str(value)
        licences = [c.rpartition(" :: ")[2] for c in about.get_all("Classifier") or [] if c.startswith("License ::")]
        return licences[0] if licences else None
    try:
        card = Path(reference, "README.md").read_text(encoding="utf-8")[:100_000]
        front = yaml.safe_load(card.split("---")[1]) if card.startswith("---") else {}
    except (OSError, ValueError, yaml.YAMLError, IndexError):
        return None
    licence = front.get("license") if isinstance(front, dict) else None
    return licence if isinstance(licence, str) and len(licence) < 60 else None


def _table(metrics: Mapping[str, float | None]) -> list[str]:
    rows = [(_plain(name), value) for name, value in scores_shown(metrics)]
    if metrics.get("n") is not None:
        rows.insert(0, ("n", f"{metrics['n']:,.0f}"))
    if not rows:
        return ["None recorded."]
    return ["| metric | value |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)]


def _of_report(figures: Mapping[str, Any]) -> list[str]:
    """What a report adds to the scores: models that cost less, on the same rows, and the classes that are told worst."""
    lines = []
    metric, baselines, classes = figures.get("metric"), figures.get("baselines") or [], figures.get("classes") or []
    if baselines:
        lines += [
            "",
            f"Of models that cost less, {_plain(metric)} on the same rows:",
            "",
            "| model | value |",
            "|---|---:|",
        ]
        lines += [f"| {_plain(one['name'])} | {one['score']:.4f} |" for one in baselines]
    worst = [one for one in classes if one.get("known") and one.get("recall_interval")][:_WORST]
    if len(classes) > 1 and worst:
        lines += [
            "",
            "The classes that it tells worst, with 95 % intervals:",
            "",
            "| class | rows | recall |",
            "|---|---:|---:|",
        ]
        lines += [
            f"| {_plain(one['label'])} | {one['n']} | {one['recall']:.2f} ({one['recall_interval'][0]:.2f} to "
            f"{one['recall_interval'][1]:.2f}) |"
            for one in worst
        ]
    return lines


def _name(place: str) -> str:
    """The last part of a path, so that the card tells nothing of the author's disk; a hub id or other name as it is."""
    absolute = place.startswith(("/", "~", ".")) or "\\" in place or place[1:2] == ":"
    return PurePath(place.replace("\\", "/")).name if absolute or place.count("/") > 1 else place


def _plain(text: str | None) -> str:
    """Text in which nothing is Markdown or HTML."""
    visible = "".join(c if c.isprintable() else " " for c in text or "")[:300]
    return re.sub(r"([\\`*_{}\[\]<>()#!|~&$])", r"\\\1", visible)


def _quote(text: str | None) -> str:
    """Text as code, on one line."""
    visible = "".join(c if c.isprintable() else " " for c in text or "").replace("`", "'").replace("|", "/")[:300]
    return f"`{visible}`"
