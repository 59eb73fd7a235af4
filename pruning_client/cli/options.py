"""Options that the commands of ``pruning-client`` share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from latency_service.devices.schemas import RuntimeConfig
from pruning_client.methods.allocation import AllocatorName
from pruning_client.methods.gate_options import GateOptions, LossName
from pruning_client.methods.magnitude import Magnitude
from pruning_client.methods.registry import MethodName, method_of
from pruning_client.pipeline.config import PredictorSource, PruneConfig
from pruning_client.training.config import PrecisionName, Training

_DEFAULTS = PruneConfig()
_TRAINING = Training()
_GATES = GateOptions()


@dataclass(frozen=True, kw_only=True)
class Options:
    """Everything but the budget."""

    model: Annotated[
        str, typer.Option(help="package.module:function that returns the trained torch module.")
    ]
    data: Annotated[
        Path,
        typer.Option(help="Folder of class folders, Parquet file, or folder of Parquet files."),
    ]
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="By default the only device; given again, every one has to meet the budget."
        ),
    ] = None
    weights: Annotated[
        Path | None, typer.Option(help="Safetensors file with the module's state_dict.")
    ] = None
    val_data: Annotated[
        Path | None, typer.Option(help="Held-out data; by default a fifth of the data.")
    ] = None
    method: Annotated[MethodName, typer.Option(help="How to decide which channels stay.")] = (
        "w-gates"
    )
    loss: Annotated[
        LossName | None,
        typer.Option(
            help="Form in which the latency enters the loss of gates.", show_default=_GATES.loss
        ),
    ] = None
    allocator: Annotated[
        AllocatorName | None,
        typer.Option(
            help="How the scores of l1, l2, bn-scale and group-norm become widths.",
            show_default=Magnitude().allocator,
        ),
    ] = None
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Epochs of joint training of weights and gates.",
            show_default=str(_GATES.epochs),
        ),
    ] = None
    finetune_epochs: Annotated[
        int, typer.Option(min=0, help="Epochs of fine-tuning after removal.")
    ] = _TRAINING.epochs
    batch_size: Annotated[int, typer.Option(min=1, help="Images per training batch.")] = (
        _TRAINING.batch_size
    )
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Scale and crop images to this square.")
    ] = None
    mean: Annotated[
        str | None, typer.Option(help="Per channel, comma-separated, of images in 0..1.")
    ] = None
    std: Annotated[str | None, typer.Option(help="Per channel, comma-separated.")] = None
    train_on: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Where training runs.")
    ] = "auto"
    precision: Annotated[
        PrecisionName, typer.Option(help="Of training; auto is bfloat16 on GPUs that have it.")
    ] = _TRAINING.precision
    predictor: Annotated[PredictorSource, typer.Option(help="Where the predictor runs.")] = (
        _DEFAULTS.predictor
    )
    predictor_id: Annotated[
        str | None,
        typer.Option(
            help="This predictor instead of the newest; refused if it is not of the target."
        ),
    ] = None
    provider: Annotated[str, typer.Option(help="ONNX Runtime execution provider.")] = (
        _DEFAULTS.runtime.provider
    )
    threads: Annotated[int, typer.Option(min=1, help="Intra-op threads of the target.")] = 1
    batch: Annotated[int, typer.Option(min=1, help="Images per run on the target.")] = 1
    campaign: Annotated[
        bool, typer.Option(help="Measure and train a predictor when there is none.")
    ] = True
    count: Annotated[
        int, typer.Option(min=8, help="Architectures that such a campaign samples.")
    ] = 120
    seed: Annotated[
        int, typer.Option(help="The same seed gives the same widths and the same file.")
    ] = 0
    server: Annotated[
        str | None, typer.Option(envvar="LATENCY_SERVICE_URL", help="Address of the service.")
    ] = None
    token: Annotated[
        str | None, typer.Option(envvar="LATENCY_SERVICE_TOKEN", help="API token.")
    ] = None
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON instead of a table.")
    ] = False

    def config(self) -> PruneConfig:
        """As settings of a job."""
        return PruneConfig(
            method=method_of(
                self.method, loss=self.loss, epochs=self.epochs, allocator=self.allocator
            ),
            training=Training(
                epochs=self.finetune_epochs,
                seed=self.seed,
                batch_size=self.batch_size,
                precision=self.precision,
            ),
            predictor=self.predictor,
            predictor_id=self.predictor_id,
            runtime=RuntimeConfig(
                provider=self.provider, intra_threads=self.threads, batch=self.batch
            ),
            campaign=replace(_DEFAULTS.campaign, allowed=self.campaign, count=self.count),
        )

    def job(self) -> dict[str, Any]:
        """As arguments that every job takes: model, data, held-out data, device and settings.

        Raises:
            ModelError: the model cannot be made.
            DataError: the data cannot be read.
            UsageError: training is to run on a GPU and there is none.
        """
        from pruning_client.data.batches import as_batches

        read = partial(
            as_batches,
            batch_size=self.batch_size,
            image_size=self.image_size,
            mean=_numbers("--mean", self.mean),
            std=_numbers("--std", self.std),
        )
        return {
            "model": self._load(),
            "data": read(self.data),
            "val_data": self.val_data and read(self.val_data),
            "device": self.device,
            "config": self.config(),
        }

    def _load(self) -> Any:
        import torch

        from pruning_client.data.models import load_model
        from pruning_client.errors import UsageError

        cuda = torch.cuda.is_available()
        if self.train_on == "cuda" and not cuda:
            raise UsageError("There is no GPU that torch can use.", "Leave --train-on at auto.")
        model = load_model(self.model, self.weights)
        return model.cuda() if cuda and self.train_on != "cpu" else model


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command of typer: its own parameters, and every field of `Options` in place of its
    parameter `options`.
    """
    hints = get_type_hints(Options, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=hints[field.name],
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
        )
        for field in fields(Options)
    ]
    own_hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=own_hints[name])
        for name, parameter in inspect.signature(command).parameters.items()
        if name != "options"
    ]

    def run(**given: Any) -> None:
        options = Options(**{field.name: given.pop(field.name) for field in fields(Options)})
        command(options=options, **given)

    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    every = [*shared[:2], *own, *shared[2:]]
    run.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in every}
    return run


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r}: write numbers with commas between them", param_hint=option
        ) from error
