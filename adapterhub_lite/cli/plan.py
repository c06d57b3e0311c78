"""`adapterhub-lite plan`: what training takes of memory, from the base's configuration alone."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from pydantic import BaseModel, Field

from adapterhub_lite.cli.options import AsJson, Columns, TaskSettings, columns_by_role
from adapterhub_lite.cli.output import plain_console, print_json
from adapterhub_lite.cli.train import TaskShortcuts
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.names import Flag, listed_names
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.tasks.catalog import Catalog, read_data
from adapterhub_lite.training.config import TrainConfig

MARKS = "+c: activations are computed again; +o: and moved to the CPU's memory"


class Planning(BaseModel):
    """What is planned for."""

    strategy: Annotated[list[str], Flag(metavar="NAME", unset="linear_probe, prefix, lora and full")] = Field(
        default_factory=list, description="A strategy, as often as needed, or several separated by commas."
    )
    settings: Annotated[dict[str, Any], Flag("--set", "KEY=VALUE", "the strategy's own")] = Field(
        default_factory=dict, description="An option of a strategy, as in lora.rank=4, as often as needed."
    )
    data: Annotated[str | None, Flag(metavar="FILE", unset="rows as long as they may be")] = Field(
        None, description="Rows whose lengths count."
    )
    memory: Annotated[str | None, Flag(metavar="SIZE", unset="no bound")] = Field(
        None,
        description="The memory of the card, or of the machine that tensors may have, such as 8GiB: choose how to stay below.",
    )
    batch_size: int = Field(16, ge=1, description="Examples per optimizer step.")
    activation_checkpointing: bool = Field(False, description="Compute activations again in any case.")
    optimizer: str = Field("adamw", description="The optimizer, as of `train`.")
    quantize: str = Field("none", description="How the weights are held in memory: none, nf4, fp4 or int8.")
    dtype: str = Field(
        "auto", description="What is computed in: auto (bfloat16 on a card), float32, bfloat16 or float16."
    )
    device: Literal["cuda", "cpu"] = Field("cuda", description="A card, which need not be here, or the CPU.")
    task_options: TaskSettings = Field(default_factory=dict)


def plan(
    base: Annotated[
        str, typer.Option(metavar="REF", help="The foundation model, as of `train`, or a folder with its config.json.")
    ],
    task: Annotated[str, typer.Option(metavar="NAME", help="What the model is to do.")],
    planning: Planning,
    shortcuts: Annotated[dict[str, Any], TaskShortcuts],
    columns: Columns,
    json_: AsJson = False,
) -> None:
    """Say what training takes of memory and what fits which card, in seconds and without weights."""
    options = {**planning.task_options, **shortcuts}
    plugins = Plugins()
    rows = None
    if planning.data is not None:
        roles = columns_by_role(columns, columns.columns)
        rows = read_data(
            Catalog(plugins), planning.data, task, columns=roles, labels=None, options=options, files=columns.files
        )
    names = listed_names(planning.strategy)
    run = TrainConfig(
        batch_size=planning.batch_size,
        activation_checkpointing=planning.activation_checkpointing,
        optimizer=planning.optimizer,
    )

    from adapterhub_lite.plan.ask import plan_memory

    planned = plan_memory(
        base, task, strategies=names or None, settings=planning.settings, data=rows, task_options=options, config=run,
        quantization=planning.quantize, dtype=planning.dtype, device=planning.device, memory=planning.memory,
        plugins=plugins,
    )  # fmt: skip
    if json_:
        print_json(planned.record())
    else:
        from adapterhub_lite.plan.shown import line_of, lines_of, tables_of

        console = plain_console()
        console.print(line_of(planned), style="bold", soft_wrap=True)
        for table in tables_of(planned):
            console.print(table)
        console.print(MARKS, style="dim", soft_wrap=True)
        for line in lines_of(planned):
            console.print(line, soft_wrap=True)
    if not any(own.fits for own in planned.strategies.values()):
        raise NotSupportedError(planned.why_not())
