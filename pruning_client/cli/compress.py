"""``pruning-client compress``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latency_service.core.terminal.columns import Column
from latency_service.core.terminal.output import Output, Table
from pruning_client.cli.input_options import InputOptions
from pruning_client.cli.options import BatchSize, Resume, TorchDevice
from pruning_client.cli.settings import load_on, recipe_from
from pruning_client.methods.unification.options import BlockShape, UnificationOptions
from pruning_client.training.config import Training

if TYPE_CHECKING:
    from pruning_client.methods.unification.method import WeightUnification
    from pruning_client.pipeline.compressed import Compressed

_COLUMNS: list[Column[dict[str, Any]]] = [
    Column("network", "network"),
    Column("bytes", "bytes"),
    Column("bytes, gzip", "gzip"),
    Column("quality, %", "quality", form=".2f"),
]
_BLOCKS = "Blocks"
_TRAINING = "Training"
_OUTPUT = "Output"
_DEFAULTS = UnificationOptions
_TRAINING_DEFAULTS = Training


@dataclass(frozen=True, kw_only=True)
class CompressOptions(InputOptions):
    """All options of `compress`."""

    block: Annotated[
        str,
        typer.Option(
            help="Rows and columns of a block in the matrix of filters against their weights, or "
            '"filter" for a whole filter.',
            rich_help_panel=_BLOCKS,
        ),
    ] = "1,9"
    zeros: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of each layer's blocks that become zero.",
            rich_help_panel=_BLOCKS,
        ),
    ] = _DEFAULTS.zeros
    dense_layer: Annotated[
        list[str] | None,
        typer.Option(
            help="Module whose weights stay as they are; can be repeated.", rich_help_panel=_BLOCKS
        ),
    ] = None
    epochs: Annotated[
        int, typer.Option(min=1, help="Epochs of training with ADMM.", rich_help_panel=_TRAINING)
    ] = _DEFAULTS.epochs
    finetune_epochs: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Epochs of retraining in the fixed pattern.",
            show_default="6, more with few images",
            rich_help_panel=_TRAINING,
        ),
    ] = _TRAINING_DEFAULTS.epochs
    train_batch_size: BatchSize = _TRAINING_DEFAULTS.batch_size
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Task, or package.module:object, as for prune.", rich_help_panel=_TRAINING
        ),
    ] = None
    torch_device: Annotated[
        TorchDevice, typer.Option(help="Torch device of training.", rich_help_panel=_TRAINING)
    ] = "auto"
    seed: Annotated[
        int,
        typer.Option(
            min=0, help="Random seed; the same seed gives the same file.", rich_help_panel=_TRAINING
        ),
    ] = _TRAINING_DEFAULTS.seed

    def method(self) -> WeightUnification:
        """Blocks and schedule.

        Raises:
            UsageError: An option is out of its range.
        """
        from pruning_client.methods.unification.method import WeightUnification

        return WeightUnification(
            block=_block(self.block),
            zeros=self.zeros,
            dense_layers=tuple(self.dense_layer or ()),
            epochs=self.epochs,
        )

    def training(self) -> Training:
        """Settings of training.

        Raises:
            UsageError: There is no such recipe.
        """
        return Training(
            epochs=self.finetune_epochs,
            batch_size=self.train_batch_size,
            seed=self.seed,
            recipe=recipe_from(self.recipe),
        )


def compress(
    options: CompressOptions,
    output: Output,
    out: Annotated[
        Path, typer.Option(help="Folder for the packed file.", rich_help_panel=_OUTPUT)
    ] = Path("runs/compress"),
    resume: Resume = False,
) -> None:
    """Make the file of a network smaller: blocks of weights share one absolute value.

    The latency does not change; `prune` makes a network faster.
    """
    from pruning_client.execution import distributed
    from pruning_client.pipeline.compress import compress as compress_network
    from pruning_client.reports.progress_bars import ProgressBars

    method = options.method()
    training = options.training()
    data, val_data = options.sources()
    with distributed.opened():
        is_first = distributed.rank() == 0
        with ProgressBars(quiet=not is_first) as bars:
            result = compress_network(
                load_on(options.torch_device, options.model, options.weights),
                data,
                method=method,
                val_data=val_data,
                training=training,
                out_dir=out,
                resume=resume or distributed.restarted(),
                progress=bars,
            )
    if is_first:
        _show(result, out, output)


def _show(result: Compressed, out: Path, output: Output) -> None:
    from pruning_client.pipeline.compressed import FILE, LATENCY

    sizes = result.sizes
    rows = [
        {"network": "dense", "bytes": sizes.dense, "gzip": sizes.dense_gzip}
        | {"quality": result.quality_before},
        {"network": "packed", "bytes": sizes.packed, "gzip": sizes.packed_gzip}
        | {"quality": result.quality_after},
    ]
    fields = {
        "file": str(out / FILE),
        "zero weights": f"{100 * result.zero_share:.1f} % of the unified ones",
        "latency": LATENCY,
    }
    output.record(result.report, fields, Table(rows=rows, columns=_COLUMNS, empty=""))


def _block(text: str) -> BlockShape:
    if text == "filter":
        return "filter"
    try:
        rows, columns = (int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            f'{text!r} is neither "filter" nor two integers, such as 1,9', param_hint="--block"
        ) from error
    return rows, columns
