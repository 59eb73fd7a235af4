"""Options about the model and the data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pruning_client.cli.settings import class_names, numbers, transform_from
from pruning_client.data.files import ImageFiles
from pruning_client.errors import UsageError

_INPUT = "Model and data"
#: Options that only images in files have, None where not given.
_OF_FILES = ("image_size", "mean", "std", "classes", "transform", "train_transform")

ModelReference = Annotated[
    str,
    typer.Option(
        help="package.module:function that returns the trained torch module.",
        rich_help_panel=_INPUT,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="Safetensors file with the state_dict of the module.", rich_help_panel=_INPUT
    ),
]
DeployReference = Annotated[
    str | None,
    typer.Option(
        help="package.module:function that gets the trained network and returns the form to "
        "measure and export, such as fused branches, or changes the given one.",
        rich_help_panel=_INPUT,
    ),
]


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """Model and data."""

    model: ModelReference
    data: Annotated[
        str,
        typer.Option(
            help="Folder of class folders, Parquet file, folder of Parquet files, or "
            "package.module:function that returns a loader or data set.",
            rich_help_panel=_INPUT,
        ),
    ]
    weights: Weights = None
    deploy: DeployReference = None
    val_data: Annotated[
        str | None,
        typer.Option(help="Held-out data; by default a fifth of the data.", rich_help_panel=_INPUT),
    ] = None
    image_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Side of the square to which images are scaled and cropped.",
            rich_help_panel=_INPUT,
        ),
    ] = None
    mean: Annotated[
        str | None,
        typer.Option(
            help="Mean of each channel for images in 0..1, comma-separated.",
            rich_help_panel=_INPUT,
        ),
    ] = None
    std: Annotated[
        str | None,
        typer.Option(
            help="Standard deviation of each channel, comma-separated.", rich_help_panel=_INPUT
        ),
    ] = None
    classes: Annotated[
        Path | None,
        typer.Option(
            help="Text file with the names of the class folders in the order of the network's "
            "outputs, one on each line; by default alphabetical.",
            rich_help_panel=_INPUT,
        ),
    ] = None
    augment: Annotated[
        bool,
        typer.Option(
            help="Crop training images at random, and flip those with colours.",
            rich_help_panel=_INPUT,
        ),
    ] = True
    transform: Annotated[
        str | None,
        typer.Option(
            help="package.module:object, a function of a PIL image that prepares every image in "
            "place of --image-size, such as a transform of torchvision.",
            rich_help_panel=_INPUT,
        ),
    ] = None
    train_transform: Annotated[
        str | None,
        typer.Option(
            help="The same for training images, in place of --augment.", rich_help_panel=_INPUT
        ),
    ] = None
    data_workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that decode images; by default as many as processors, up to 8.",
            rich_help_panel=_INPUT,
        ),
    ] = None

    def sources(self) -> tuple[Any, Any]:
        """Training and held-out data: images in files, prepared as the options say, or what a
        function returns. The second is None unless it is given.

        Raises:
            DataError: The file with the names of the classes cannot be read.
            ModelError: A function, or a transform, cannot be imported or called.
            UsageError: A transform is no function, or an option is about files and there are none.
        """
        given = [self.data] if self.val_data is None else [self.data, self.val_data]
        if not any(_is_file(name) for name in given):
            self._refuse_options_of_files()
        found = [self._source(name) for name in given]
        return found[0], found[1] if len(found) > 1 else None

    def _source(self, given: str) -> Any:
        from pruning_client.data.models import called

        if not _is_file(given):
            return called(given, "data")
        return ImageFiles(
            path=Path(given),
            image_size=self.image_size,
            mean=numbers("--mean", self.mean),
            std=numbers("--std", self.std),
            classes=class_names(self.classes),
            augment=self.augment,
            transform=transform_from(self.transform),
            train_transform=transform_from(self.train_transform),
            workers=self.data_workers,
        )

    def _refuse_options_of_files(self) -> None:
        for name in _OF_FILES:
            if getattr(self, name) is not None:
                raise UsageError(
                    f"--{name.replace('_', '-')} prepares images in files, and the data "
                    "are what a function returns.",
                    "Let the function prepare them.",
                )


def _is_file(given: str) -> bool:
    """Whether data are named by a path, not by ``package.module:function``."""
    return ":" not in given or Path(given).exists()
