"""Options about the model and the data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pruning_client.cli.settings import class_names, numbers
from pruning_client.data.files import ImageFiles
from pruning_client.data.models import called

_INPUT = "Model and data"

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
    data_workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that decode images; by default as many as processors, up to 8.",
            rich_help_panel=_INPUT,
        ),
    ] = None

    def source(self, given: str) -> Any:
        """Images in files, prepared as the options say, or what a function returns.

        Raises:
            DataError: The file with the names of the classes cannot be read.
            ModelError: The function cannot be imported or called.
        """
        path = Path(given)
        if ":" in given and not path.exists():
            return called(given, "data")
        return ImageFiles(
            path=path,
            image_size=self.image_size,
            mean=numbers("--mean", self.mean),
            std=numbers("--std", self.std),
            classes=class_names(self.classes),
            augment=self.augment,
            workers=self.data_workers,
        )
