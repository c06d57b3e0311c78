"""The tasks by name: ours, listed here and nowhere else, and those of plug-ins. No torch here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapterhub_lite.api import Request, TaskKind, TaskOptions, TaskSpec
from adapterhub_lite.data import (
    causal_lm,
    image_classification,
    series,
    text_classification,
    text_regression,
    token_classification,
)
from adapterhub_lite.data.dataset import SEVERAL, Dataset
from adapterhub_lite.errors import ConfigError, PluginError
from adapterhub_lite.plugins import OURS, Plugins, ProvidedTask
from adapterhub_lite.registry import checked_options
from adapterhub_lite.tasks import series_data
from adapterhub_lite.tasks.options import (
    CausalLMOptions,
    ImageClassificationOptions,
    SeriesClassificationOptions,
    SeriesRegressionOptions,
    TextClassificationOptions,
    TextRegressionOptions,
    TokenClassificationOptions,
)


def _text_classification() -> TaskKind:
    from adapterhub_lite.tasks.text_classification import TextClassification

    return TextClassification


def _text_regression() -> TaskKind:
    from adapterhub_lite.tasks.text_regression import TextRegression

    return TextRegression


def _token_classification() -> TaskKind:
    from adapterhub_lite.tasks.token_classification import TokenClassification

    return TokenClassification


def _causal_lm() -> TaskKind:
    from adapterhub_lite.tasks.causal_lm import CausalLM

    return CausalLM


def _image_classification() -> TaskKind:
    from adapterhub_lite.tasks.image_classification import ImageClassification

    return ImageClassification


def _series_classification() -> TaskKind:
    from adapterhub_lite.tasks.series_classification import SeriesClassification

    return SeriesClassification


def _series_regression() -> TaskKind:
    from adapterhub_lite.tasks.series_regression import SeriesRegression

    return SeriesRegression


BUILT_IN = (
    TaskSpec(
        name="text-classification",
        summary="A text or a pair of texts in, one of several labels or any number of them out.",
        modality="text",
        read=text_classification.read,
        load=_text_classification,
        roles=text_classification.ROLES,
        options=TextClassificationOptions,
        forms=(None, SEVERAL),
    ),
    TaskSpec(
        name="text-regression",
        summary="A text or a pair of texts in, a number out.",
        modality="text",
        read=text_regression.read,
        load=_text_regression,
        roles=text_regression.ROLES,
        options=TextRegressionOptions,
        labelled=False,
    ),
    TaskSpec(
        name="token-classification",
        summary="Words in, a tag for each of them out: entities, parts of speech.",
        modality="text",
        read=token_classification.read,
        load=_token_classification,
        roles=token_classification.ROLES,
        options=TokenClassificationOptions,
    ),
    TaskSpec(
        name="causal-lm",
        summary="Text to continue: plain text, prompt and completion, or chats.",
        modality="text",
        read=causal_lm.read,
        load=_causal_lm,
        roles=("messages", "prompt", "input", "completion", "text", "group"),
        options=CausalLMOptions,
        forms=(None, "text", "completion", "chat"),
        labelled=False,
    ),
    TaskSpec(
        name="image-classification",
        summary="An image in, one of several labels or any number of them out.",
        modality="image",
        read=image_classification.read,
        load=_image_classification,
        roles=image_classification.ROLES,
        options=ImageClassificationOptions,
        forms=(None, SEVERAL),
    ),
    TaskSpec(
        name=series.CLASSIFICATION,
        summary="A time series in, whole or in windows, one of several labels out.",
        modality="series",
        read=series_data.read_classification,
        load=_series_classification,
        roles=("channels", "series", "time", "label", "group"),
        options=SeriesClassificationOptions,
        forms=series_data.FORMS,
        columns_again=series_data.columns_again,
    ),
    TaskSpec(
        name=series.REGRESSION,
        summary="A time series in, whole or in windows, a number out.",
        modality="series",
        read=series_data.read_regression,
        load=_series_regression,
        roles=("channels", "series", "time", "target", "group"),
        options=SeriesRegressionOptions,
        labelled=False,
        forms=series_data.FORMS,
        columns_again=series_data.columns_again,
    ),
)


class Catalog:
    """The tasks of one engine.

    Args:
        plugins: Those that may offer tasks of their own; None for ours alone.
    """

    def __init__(self, plugins: Plugins | None = None):
        version = "0"
        self._ours = [ProvidedTask(spec, OURS, OURS, version) for spec in BUILT_IN]
        self._plugins = plugins

    @property
    def tasks(self) -> list[ProvidedTask]:
        """Every task, ours first."""
        return [*self._ours, *(self._plugins.tasks if self._plugins is not None else [])]

    def names(self) -> list[str]:
        """Every name that can be resolved."""
        return list(dict.fromkeys(each.spec.name for each in self.tasks))

    def resolve(self, name: str) -> ProvidedTask:
        """Find the one provider of a task.

        Args:
            name: A task's name, or `dist:name`.

        Raises:
            ConfigError: when none provides it, or several do.
        """
        matches = [each for each in self.tasks if name in (each.spec.name, f"{each.dist}:{each.spec.name}")]
        if len(matches) == 1:
            return matches[0]
        if matches:
            choices = ", ".join(sorted(f"{each.dist}:{each.spec.name}" for each in matches))
            raise ConfigError(f"task '{name}' is provided more than once; name one of: {choices}")
        dist, _, _ = name.rpartition(":")
        if dist:
            raise ConfigError(
                f"task '{name}' is not installed; pip install {dist}; there are: {', '.join(self.names())}"
            )
        close = difflib.get_close_matches(name, self.names(), n=1)
        meant = f" (did you mean '{close[0]}'?)" if close else ""
        raise ConfigError(f"there is no task '{name}'{meant}; choose one of: {', '.join(self.names())}")

    def configure(self, provided: ProvidedTask, settings: Mapping[str, Any]) -> TaskOptions:
        """Build a task's options.

        Raises:
            ConfigError: naming every option that is unknown or out of range, and those there are.
        """
        return checked_options(provided.spec.options, settings, f"task '{provided.spec.name}'")

    def kind(self, provided: ProvidedTask) -> TaskKind:
        """Import the heavy half of a task.

        Raises:
            PluginError: when that fails, naming the plug-in and its distribution.
        """
        try:
            return provided.spec.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit in a plug-in must not end the program
            raise PluginError(
                f"task '{provided.spec.name}' of plug-in '{provided.plugin}' ({provided.dist} {provided.version}) "
                f"could not be loaded: {type(error).__name__}: {error}"
            ) from error

    def read(
        self,
        source: Any,
        task: str,
        *,
        columns: Mapping[str, str] | None = None,
        labels: Sequence[str] | None = None,
        require_labels: bool = True,
        form: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Dataset:
        """See `load_data`; `form` is that of the data an adapter was trained on."""
        provided = self.resolve(task)
        settled = self.configure(provided, options or {})
        request = Request(dict(columns or {}), labels, require_labels, form, settled)
        dataset = provided.spec.read(source, request)
        return replace(
            dataset, task=recorded_name(provided), options=settled.model_dump(mode="json", exclude_unset=True)
        )


def recorded_name(provided: ProvidedTask) -> str:
    """The name that adapters record: bare for our tasks, with the distribution for a plug-in's."""
    return provided.spec.name if provided.dist == OURS else f"{provided.dist}:{provided.spec.name}"


def load_data(
    source: Any,
    task: str,
    *,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    require_labels: bool = True,
    options: Mapping[str, Any] | None = None,
) -> Dataset:
    """Read and check the data for one of our tasks, every row of it, before any model is loaded.

    `source` is what `read_table` takes, or for images also a folder of class folders or an .npz. `columns` says which
    column plays a role ({"text": "clause", "label": "kind"}); roles left out are guessed from the names, and the
    result's `columns` says how. `labels` are the classes of a trained adapter: their order is kept, and a label outside
    them is an error. With `require_labels=False` (prediction) labels may be absent; targets are None unless all rows
    have a usable one. `options` are those of the task, as `Engine.train` takes them.

    Raises DataError, which names the file, row and column, and ConfigError for an unknown task, role or option.
    """
    return Catalog().read(
        source, task, columns=columns, labels=labels, require_labels=require_labels, options=options
    )  # fmt: skip
