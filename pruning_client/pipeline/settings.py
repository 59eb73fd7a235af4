"""What a pruning job is asked to do: model, data, and settings that are plain frozen values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from typing import Any

from torch import nn

from latency_service.core.runtimes import Precision
from pruning_client.data.batches import Batches, images_in
from pruning_client.data.model_fit import check_fit, forward_names, input_channels
from pruning_client.data.sources import as_batches, like
from pruning_client.errors import UsageError
from pruning_client.execution import distributed
from pruning_client.graph.deploy import hook_name
from pruning_client.graph.given import given_network
from pruning_client.graph.traced import Deploy
from pruning_client.methods.base import Method
from pruning_client.methods.registry import options_of
from pruning_client.methods.w_gates import WGates
from pruning_client.pipeline import cautions
from pruning_client.pipeline.quantisation_settings import Quantisation
from pruning_client.pipeline.verify import Verify
from pruning_client.service.campaign import Campaign
from pruning_client.service.target import Target
from pruning_client.training.config import Training
from pruning_client.training.cross_entropy import ignored_label, is_cross_entropy
from pruning_client.training.few_images import for_images

#: Fields that `prune` takes by the same names.
_ARGUMENTS = ("method", "training", "verify", "campaign", "quantisation")
#: Types of options that JSON holds as they are.
_PLAIN = (str, int, float, list)


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """Settings of a pruning job apart from model, data and budget."""

    #: targets, every one of which has to meet the budget
    targets: tuple[Target, ...] = (Target(),)
    method: Method = field(default_factory=WGates)
    training: Training = field(default_factory=Training)
    campaign: Campaign = field(default_factory=Campaign)
    verify: Verify = field(default_factory=Verify)
    #: None where nothing was set; only for int8 targets
    quantisation: Quantisation | None = None

    @property
    def precision(self) -> Precision:
        """Precision of the file that is measured and delivered."""
        return self.targets[0].precision

    def as_plain(self) -> dict[str, Any]:
        """Plain values, as reports and checkpoints hold them; the user's own recipe has none."""
        return {
            "targets": [asdict(target) for target in self.targets],
            "method": {"name": self.method.name, **_options_as_plain(self.method)},
            "training": _training_as_plain(self.training),
            "campaign": asdict(self.campaign),
            "verify": asdict(self.verify),
            "quantisation": self._quantisation_as_plain(),
        }

    def as_call(self, budget: str) -> str:
        """The call of `prune` that stands for these settings; defaults are left out."""
        changed = self.changed_arguments().values()
        return f"prune({', '.join(['model', 'data', f'budget={budget!r}', *changed])})"

    def changed_arguments(self) -> dict[str, str]:
        """Arguments of `prune` that differ from the defaults, by name, as ``name=value``."""
        default = JobSettings()._arguments()
        return {
            name: f"{name}={_written(value)}"
            for name, value in self._arguments().items()
            if value != default[name]
        }

    def _quantisation_as_plain(self) -> dict[str, Any] | None:
        if self.precision != "int8":
            return None
        return asdict(self.quantisation or Quantisation())

    def _arguments(self) -> dict[str, Any]:
        only = self.targets[0] if len(self.targets) == 1 else list(self.targets)
        rest = {name: getattr(self, name) for name in _ARGUMENTS}
        return {"target": only, **rest}


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """Model, data and settings of one job, or of the jobs of a sweep."""

    model: nn.Module
    data: Any
    val_data: Any = None
    settings: JobSettings = field(default_factory=JobSettings)
    #: what makes the form of the trained network that is measured and exported
    deploy: Deploy | None = None
    #: command that reproduces the job of a budget; by default the call of `prune`
    command_of: Callable[[str], str] | None = None

    def __post_init__(self) -> None:
        """Take the network out of wrappers.

        Raises:
            ModelError: it is no network that can be pruned.
        """
        object.__setattr__(self, "model", given_network(self.model))

    def command(self, budget: str) -> str:
        """What a report says to run to get the same result again; it never holds a token."""
        if self.command_of is not None:
            return self.command_of(budget)
        call = self.settings.as_call(budget)
        if self.deploy is None:
            return call
        return f"{call.removesuffix(')')}, deploy={hook_name(self.deploy)})"

    def batches(self) -> tuple[Batches, Batches]:
        """Training data and held-out data, after every check that needs no service.

        Raises:
            UsageError: the settings do not go together.
            DataError: the data cannot be read, or do not fit the model.
        """
        if self.settings.campaign.source == "served" and distributed.world() > 1:
            raise UsageError(
                "With a served predictor every process would send requests.",
                "Use the local one: `--predictor-source local`.",
            )
        self._check_precision()
        train, held_out = self._split()
        recipe = self.settings.training.recipe
        check = partial(
            check_fit,
            self.model,
            classes=recipe.measures_accuracy or is_cross_entropy(recipe.loss),
            ignored=ignored_label(recipe.loss),
        )
        count = check(train)
        check(held_out)
        # a loader without a length, or without a batch, is refused here
        len(train)
        cautions.say_of_classes(train, held_out, count)
        return train, held_out

    def for_data(self, train: Batches) -> JobRequest:
        """The request, with the settings filled in that follow the number of training images."""
        training = self.settings.training
        filled = for_images(training, images_in(train, training.seed))
        return replace(self, settings=replace(self.settings, training=filled))

    def _check_precision(self) -> None:
        """Refuse targets that one file cannot serve, and settings of int8 files for fp32 ones."""
        precisions = {target.precision for target in self.settings.targets}
        if len(precisions) > 1:
            raise UsageError(
                f"The targets run files of different precisions: {', '.join(sorted(precisions))}. "
                "A job delivers one file.",
                "Start one job for each precision.",
            )
        if self.settings.quantisation is not None and precisions != {"int8"}:
            raise UsageError(
                "The file for an fp32 target is not quantised, and settings of the quantisation "
                "were given.",
                "Leave them out, or prune for an int8 target: `--target-precision int8`, in Python "
                '`Target(precision="int8")`.',
            )

    def _split(self) -> tuple[Batches, Batches]:
        training = self.settings.training
        size, names = training.batch_size, forward_names(self.model)
        channels = input_channels(self.model)
        batches = as_batches(self.data, batch_size=size, names=names, channels=channels)
        if self.val_data is None:
            return batches.split(training.held_out, training.seed)
        data = self.val_data
        return batches, like(batches, data, batch_size=size, names=names, channels=channels)


def _options_as_plain(method: Method) -> dict[str, Any]:
    """A method's options; of one that is no plain value, such as a function, the type's name."""
    return {
        name: value if value is None or isinstance(value, _PLAIN) else type(value).__name__
        for name, value in options_of(method).items()
    }


def _training_as_plain(training: Training) -> dict[str, Any]:
    return {
        entry.name: getattr(training, entry.name)
        for entry in fields(Training)
        if entry.name != "recipe"
    }


def _written(value: Any) -> str:
    """A settings value as Python source, without the fields that are at their defaults."""
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    default = type(value)()
    changed = [
        f"{entry.name}={_field(getattr(value, entry.name))}"
        for entry in fields(value)
        if getattr(value, entry.name) != getattr(default, entry.name)
    ]
    return f"{type(value).__name__}({', '.join(changed)})"


def _field(value: Any) -> str:
    is_plain = value is None or isinstance(value, (str, int, float, tuple))
    return repr(value) if is_plain else "..."
