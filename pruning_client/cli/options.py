"""Options shared by the commands of ``pruning-client``, by topic."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from latency_service.core.runtimes import CalibrationName, Precision
from latency_service.core.terminal import completion
from pruning_client.cli.command import prune_command
from pruning_client.cli.input_options import InputOptions
from pruning_client.cli.names import method_names
from pruning_client.cli.settings import (
    deploy_from,
    load_on,
    method_from,
    percent,
    quantisation_from,
    recipe_from,
    seconds,
)
from pruning_client.methods.gate_options import GateOptions, LossName
from pruning_client.methods.names import BUILT_IN, AllocatorName
from pruning_client.pipeline.quantisation_settings import Quantisation
from pruning_client.pipeline.verify import Verify
from pruning_client.service.campaign import Campaign, PredictorSource
from pruning_client.service.target import Target
from pruning_client.training.config import PrecisionName, Training

if TYPE_CHECKING:
    from pruning_client.pipeline.settings import JobRequest, JobSettings

TorchDevice = Literal["auto", "cpu", "cuda"]

_TARGET = "Target: the device and runtime that are measured"
_INT8 = "int8 quantisation: for --target-precision int8"
_METHOD = "Method"
_TRAINING = "Training"
_PREDICTOR = "Latency predictor"
_VERIFICATION = "Verification"
_OUTPUT = "Service and output"

_TARGET_DEFAULTS = Target()
_INT8_DEFAULTS = Quantisation()
_TRAINING_DEFAULTS = Training
_CAMPAIGN_DEFAULTS = Campaign()
_GATE_DEFAULTS = GateOptions()

Server = Annotated[
    str | None,
    typer.Option(
        envvar="LATENCY_SERVICE_URL", help="Address of the service.", rich_help_panel=_OUTPUT
    ),
]
Token = Annotated[
    str | None,
    typer.Option(envvar="LATENCY_SERVICE_TOKEN", help="API token.", rich_help_panel=_OUTPUT),
]
Resume = Annotated[
    bool,
    typer.Option(
        help="Continue a stopped job with the same options in --out.", rich_help_panel=_OUTPUT
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Images per training batch.",
        show_default="128, fewer with few images",
        rich_help_panel=_TRAINING,
    ),
]


@dataclass(frozen=True, kw_only=True)
class Options(InputOptions):
    """All options except the budget."""

    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of the device, by default the only one. If repeated, every device must meet "
            "the budget.",
            autocompletion=completion.devices,
            rich_help_panel=_TARGET,
        ),
    ] = None
    target_provider: Annotated[
        str, typer.Option(help="ONNX Runtime execution provider.", rich_help_panel=_TARGET)
    ] = _TARGET_DEFAULTS.provider
    target_threads: Annotated[
        int, typer.Option(min=1, help="Number of intra-op threads.", rich_help_panel=_TARGET)
    ] = _TARGET_DEFAULTS.threads
    target_batch: Annotated[
        int, typer.Option(min=1, help="Images per run.", rich_help_panel=_TARGET)
    ] = _TARGET_DEFAULTS.batch
    target_precision: Annotated[
        Precision,
        typer.Option(help="Precision of the file on the device.", rich_help_panel=_TARGET),
    ] = _TARGET_DEFAULTS.precision
    int8_calibration: Annotated[
        CalibrationName | None,
        typer.Option(
            help="How the range of an activation is found.",
            show_default=_INT8_DEFAULTS.calibration,
            rich_help_panel=_INT8,
        ),
    ] = None
    int8_images: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of training images to calibrate on.",
            show_default=str(_INT8_DEFAULTS.images),
            rich_help_panel=_INT8,
        ),
    ] = None
    int8_max_drop: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Points of accuracy that the int8 file may have less than the fp32 file; "
            "sensitive layers are left in float for it.",
            show_default=str(_INT8_DEFAULTS.max_accuracy_drop),
            rich_help_panel=_INT8,
        ),
    ] = None
    int8_float_layer: Annotated[
        list[str] | None,
        typer.Option(
            help="Module to leave in float in any case; can be repeated.", rich_help_panel=_INT8
        ),
    ] = None
    int8_aware_epochs: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Epochs of quantisation-aware training after the fine-tuning.",
            show_default=str(_INT8_DEFAULTS.aware_epochs),
            rich_help_panel=_INT8,
        ),
    ] = None
    method: Annotated[
        str,
        typer.Option(
            help=f"Method that chooses the channels to keep: {', '.join(BUILT_IN)}, or one of an "
            "installed package (pruning-client methods lists them).",
            metavar="NAME",
            autocompletion=method_names,
            rich_help_panel=_METHOD,
        ),
    ] = "w-gates"
    method_option: Annotated[
        list[str] | None,
        typer.Option(
            help="Any option of the method, such as frozen_share=0.3; can be repeated.",
            metavar="NAME=VALUE",
            rich_help_panel=_METHOD,
        ),
    ] = None
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Epochs in which weights are trained and channels chosen, for methods that train.",
            show_default="that of the method",
            rich_help_panel=_METHOD,
        ),
    ] = None
    loss: Annotated[
        LossName | None,
        typer.Option(
            help="Form of the latency term in the loss of gates.",
            show_default=_GATE_DEFAULTS.loss,
            rich_help_panel=_METHOD,
        ),
    ] = None
    allocator: Annotated[
        AllocatorName | None,
        typer.Option(
            help="Rule that turns scores into widths, for methods that only score channels.",
            show_default="that of the method",
            rich_help_panel=_METHOD,
        ),
    ] = None
    finetune_epochs: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Epochs of fine-tuning after the channels are removed.",
            show_default="6, more with few images",
            rich_help_panel=_TRAINING,
        ),
    ] = _TRAINING_DEFAULTS.epochs
    compensation: Annotated[
        bool,
        typer.Option(
            help="Fit the layers that read removed channels to make up for them, before the "
            "fine-tuning, where that helps.",
            rich_help_panel=_TRAINING,
        ),
    ] = _TRAINING_DEFAULTS.compensation
    train_batch_size: BatchSize = _TRAINING_DEFAULTS.batch_size
    train_precision: Annotated[
        PrecisionName,
        typer.Option(
            help="Precision of training; auto is bfloat16 on GPUs that support it.",
            rich_help_panel=_TRAINING,
        ),
    ] = _TRAINING_DEFAULTS.precision
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Task: classification (default), segmentation, multi-label or regression; or "
            "package.module:object, a Recipe or a function that returns one.",
            rich_help_panel=_TRAINING,
        ),
    ] = None
    micro_batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Images computed at once; gradients of larger batches are accumulated.",
            rich_help_panel=_TRAINING,
        ),
    ] = None
    torch_device: Annotated[
        TorchDevice, typer.Option(help="Torch device of training.", rich_help_panel=_TRAINING)
    ] = "auto"
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Random seed; the same seed gives the same widths and the same file.",
            rich_help_panel=_TRAINING,
        ),
    ] = _TRAINING_DEFAULTS.seed
    campaign: Annotated[
        bool,
        typer.Option(
            help="Measure and train a predictor when the target has none.",
            rich_help_panel=_PREDICTOR,
        ),
    ] = _CAMPAIGN_DEFAULTS.allowed
    architectures: Annotated[
        int,
        typer.Option(
            min=10,
            help="Number of architectures to measure if a predictor is trained; with --error-goal "
            "the maximum.",
            rich_help_panel=_PREDICTOR,
        ),
    ] = _CAMPAIGN_DEFAULTS.architectures
    error_goal: Annotated[
        str | None,
        typer.Option(
            help="Measure in rounds until the upper confidence bound of the predictor's held-out "
            "error is at most this, as in 3%.",
            rich_help_panel=_PREDICTOR,
        ),
    ] = None
    predictor_source: Annotated[
        PredictorSource,
        typer.Option(
            help="Evaluate the predictor in this process, or over HTTP.",
            rich_help_panel=_PREDICTOR,
        ),
    ] = _CAMPAIGN_DEFAULTS.source
    predictor_id: Annotated[
        str | None,
        typer.Option(
            help="Id of the predictor to use instead of the newest; it must be of the target.",
            autocompletion=completion.predictors,
            rich_help_panel=_PREDICTOR,
        ),
    ] = None
    verification_time: Annotated[
        str | None,
        typer.Option(
            help="Time on each target for measuring files, such as 20m: waiting for a quieter "
            "machine included. By default the longer of 10 minutes and the time of 30 "
            "measurements.",
            rich_help_panel=_VERIFICATION,
        ),
    ] = None
    server: Server = None
    token: Token = None

    def settings(self) -> JobSettings:
        """Settings of the job.

        Raises:
            UsageError: The method does not have one of the given options.
        """
        from pruning_client.pipeline.settings import JobSettings

        return JobSettings(
            targets=self._targets(),
            quantisation=quantisation_from(
                self.int8_calibration,
                self.int8_images,
                self.int8_max_drop,
                self.int8_float_layer,
                self.int8_aware_epochs,
            ),
            method=method_from(self.method, self.method_option or [], **self.method_options()),
            training=Training(
                epochs=self.finetune_epochs,
                compensation=self.compensation,
                batch_size=self.train_batch_size,
                precision=self.train_precision,
                seed=self.seed,
                micro_batch=self.micro_batch,
                recipe=recipe_from(self.recipe),
            ),
            campaign=Campaign(
                allowed=self.campaign,
                architectures=self.architectures,
                error_goal=None
                if self.error_goal is None
                else percent("--error-goal", self.error_goal),
                source=self.predictor_source,
                predictor_id=self.predictor_id,
            ),
            verify=Verify(
                seconds=None
                if self.verification_time is None
                else seconds("--verification-time", self.verification_time)
            ),
        )

    def method_options(self) -> dict[str, Any]:
        """Options of methods by field name; None where one is not given."""
        return {"epochs": self.epochs, "loss": self.loss, "allocator": self.allocator}

    def request(self) -> JobRequest:
        """Model, data and settings of the job.

        Raises:
            ModelError: The model cannot be created.
            UsageError: Options contradict each other, or there is no GPU to train on.
        """
        from pruning_client.pipeline.settings import JobRequest

        settings = self.settings()
        data, val_data = self.sources()
        return JobRequest(
            model=load_on(self.torch_device, self.model, self.weights),
            data=data,
            val_data=val_data,
            settings=settings,
            deploy=deploy_from(self.deploy),
            command_of=partial(prune_command, self.changed()),
        )

    def changed(self) -> dict[str, Any]:
        """Values that differ from the defaults, by field name, without address and token."""
        return {
            entry.name: getattr(self, entry.name)
            for entry in fields(self)
            if entry.name not in ("server", "token") and getattr(self, entry.name) != entry.default
        }

    def _targets(self) -> tuple[Target, ...]:
        devices: list[str | None] = [*self.target] if self.target else [None]
        return tuple(
            Target(
                device=device,
                provider=self.target_provider,
                threads=self.target_threads,
                batch=self.target_batch,
                precision=self.target_precision,
            )
            for device in dict.fromkeys(devices)
        )
