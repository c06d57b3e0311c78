"""All that a plug-in imports.

A plug-in is a module named by an entry point of the group `adapterhub_lite`. It has two halves: a light one, imported
at start-up and free of torch, that says what the strategy is, and a heavy one, imported on first use, that attaches it:

    # my_strategy/__init__.py
    from adapterhub_lite.api import Field, StrategyConfig, StrategySpec, Traits, hookimpl

    class Config(StrategyConfig):
        rank: int = Field(default=8, ge=1, description="Rank of the update.")

    @hookimpl
    def adapterhub_strategies():
        return [
            StrategySpec(name="mine", summary="What it does.", config=Config, load="my_strategy.strategy:MyStrategy")
        ]

    # my_strategy/strategy.py
    class MyStrategy:
        def attach(self, view, config):
            return {...}          # name -> torch.nn.Parameter: exactly what trains and what is saved
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field as Field

from adapterhub_lite.base.learning import (
    AfterStep as AfterStep,
    BatchContext as BatchContext,
    Factors as Factors,
    Grouped as Grouped,
    OutputLoss as OutputLoss,
    Penalized as Penalized,
    Preparer as Preparer,
    Stateful as Stateful,
    StrategyState as StrategyState,
    TrainingBatch as TrainingBatch,
)
from adapterhub_lite.base.map import ModelMap as ModelMap
from adapterhub_lite.base.model_folder import CONFIG_LIMIT as CONFIG_LIMIT, read_object as read_object
from adapterhub_lite.base.strategy import (
    Combinable as Combinable,
    Combination as Combination,
    Exporter as Exporter,
    FeatureProblem as FeatureProblem,
    GgufWriter as GgufWriter,
    Mergeable as Mergeable,
    Part as Part,
    PeftCompatible as PeftCompatible,
    PeftReader as PeftReader,
    PeftWriter as PeftWriter,
    Recipe as Recipe,
    Solver as Solver,
    Strategy as Strategy,
    WeightUpdater as WeightUpdater,
)
from adapterhub_lite.data.files.options import FileOptions as FileOptions
from adapterhub_lite.data.request import SEVERAL as SEVERAL, Request as Request
from adapterhub_lite.errors import (
    AdapterCorruptError as AdapterCorruptError,
    AdapterHubError as AdapterHubError,
    ConfigError as ConfigError,
    DataError as DataError,
    NotSupportedError as NotSupportedError,
)
from adapterhub_lite.first_use import on_first_use
from adapterhub_lite.names import check_choice as check_choice, did_you_mean as did_you_mean
from adapterhub_lite.plugins.hookspecs import Run as Run
from adapterhub_lite.plugins.spec import (
    API_VERSION as API_VERSION,
    MODALITIES as MODALITIES,
    Modality as Modality,
    ReaderSpec as ReaderSpec,
    Situation as Situation,
    StrategyConfig as StrategyConfig,
    StrategySpec as StrategySpec,
    TargetKind as TargetKind,
    Traits as Traits,
    hookimpl as hookimpl,
)
from adapterhub_lite.tasks.spec import TaskKind as TaskKind, TaskOptions as TaskOptions, TaskSpec as TaskSpec

if TYPE_CHECKING:
    # Each of these is imported when it is first asked for: they need torch or pyarrow.
    from adapterhub_lite.base.attention import ATTENTION_IMPLEMENTATION as ATTENTION_IMPLEMENTATION
    from adapterhub_lite.base.describe import example_inputs as example_inputs, introspect as introspect
    from adapterhub_lite.base.experts import matrices as matrices, noted as noted
    from adapterhub_lite.base.loading import Base as Base
    from adapterhub_lite.base.quantization import (
        dense_weight as dense_weight,
        is_quantized as is_quantized,
        stored_shape as stored_shape,
    )
    from adapterhub_lite.base.view import (
        AttentionCall as AttentionCall,
        AttentionSite as AttentionSite,
        ModelView as ModelView,
    )
    from adapterhub_lite.data.arrays import RowBuilder as RowBuilder
    from adapterhub_lite.data.dataset import Dataset as Dataset
    from adapterhub_lite.data.files.npz import (
        load_arrays as load_arrays,
        rows_of_split as rows_of_split,
    )
    from adapterhub_lite.data.files.read import (
        existing as existing,
        file_sha256 as file_sha256,
        read_table as read_table,
    )
    from adapterhub_lite.data.files.references import parse_reference as parse_reference
    from adapterhub_lite.data.files.text import (
        encoding_of as encoding_of,
        open_text as open_text,
        undecodable as undecodable,
    )
    from adapterhub_lite.data.items import read_items as read_items
    from adapterhub_lite.data.roles.choices import read_choices as read_choices
    from adapterhub_lite.data.roles.columns import (
        check_roles as check_roles,
        checked_text as checked_text,
        columns_shown as columns_shown,
        counted as counted,
        find_column as find_column,
        guess_column as guess_column,
        is_missing as is_missing,
        refuse_header as refuse_header,
        shortened as shortened,
    )
    from adapterhub_lite.data.roles.groups import read_groups as read_groups
    from adapterhub_lite.data.roles.labels import (
        Labels as Labels,
        notes_on_looks as notes_on_looks,
        one_label as one_label,
        ordered_labels as ordered_labels,
        read_labels as read_labels,
        unknown_labels as unknown_labels,
    )
    from adapterhub_lite.data.roles.numbers import ABSENT as ABSENT, number_of as number_of
    from adapterhub_lite.data.roles.several_labels import list_in_text as list_in_text
    from adapterhub_lite.data.table import JSON_TYPE as JSON_TYPE, Table as Table, place as place
    from adapterhub_lite.merging.peft_files import refuse_settings as refuse_settings
    from adapterhub_lite.plugins.strategy_call import is_out_of_memory as is_out_of_memory
    from adapterhub_lite.plugins.surroundings import quiet as quiet
    from adapterhub_lite.scoring.by_class import of_classes as of_classes, scores_of as scores_of
    from adapterhub_lite.scoring.detail import Detail as Detail
    from adapterhub_lite.scoring.metrics import bootstrap as bootstrap, macro_f1 as macro_f1
    from adapterhub_lite.scoring.of_labels import TagDetail as TagDetail
    from adapterhub_lite.tasks.classification import Classification as Classification
    from adapterhub_lite.tasks.head import HeadTask as HeadTask, pool as pool, targets_of as targets_of
    from adapterhub_lite.tasks.options import ClassificationOptions as ClassificationOptions
    from adapterhub_lite.tasks.regression import Regression as Regression, standard_units as standard_units
    from adapterhub_lite.tasks.stored import collected as collected
    from adapterhub_lite.tasks.task import (
        LEARNT as LEARNT,
        Batch as Batch,
        Encoded as Encoded,
        Example as Example,
        Preprocessing as Preprocessing,
        Task as Task,
    )
    from adapterhub_lite.tasks.text import (
        LONGEST_TEXT as LONGEST_TEXT,
        SAMPLE_TEXTS as SAMPLE_TEXTS,
        check_characters as check_characters,
        checked_length as checked_length,
        hidden_states as hidden_states,
        in_one_row as in_one_row,
        pad_tokens as pad_tokens,
    )
    from adapterhub_lite.testing.tiny_model import TinyModel as TinyModel
    from adapterhub_lite.testing.tokenizer import tiny_tokenizer as tiny_tokenizer
else:
    __getattr__ = on_first_use(__name__)
