"""`compress`: from a network to a smaller file of the same network, by weight unification."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from pruning_client.data.batches import Batches
from pruning_client.errors import UsageError
from pruning_client.execution import distributed
from pruning_client.execution.copies import copied
from pruning_client.execution.journal import FOLDER, Journal
from pruning_client.execution.progress import Progress, silent
from pruning_client.methods.registry import options_of
from pruning_client.methods.unification.admm import Admm
from pruning_client.methods.unification.compression import BlockProjection, held, unifiable
from pruning_client.methods.unification.method import WeightUnification, train_admm
from pruning_client.methods.unification.packed import pack
from pruning_client.pipeline import folders
from pruning_client.pipeline.artifacts import digest
from pruning_client.pipeline.compressed import Compressed, StoredBytes
from pruning_client.pipeline.settings import JobRequest, JobSettings
from pruning_client.training.batch_norm import mark_frozen, recalibrate_batch_norm
from pruning_client.training.config import Training
from pruning_client.training.hooks import Recipe
from pruning_client.training.metrics import quality
from pruning_client.training.soundness import check_finite
from pruning_client.training.trainer import finetune

#: One 3 x 3 kernel.
DEFAULT_BLOCK = (1, 9)
_RETRAINING = "retrain"


def compress(
    model: nn.Module,
    data: Any,
    *,
    method: WeightUnification | None = None,
    val_data: Any = None,
    training: Training | None = None,
    out_dir: Path | str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Compressed:
    """Give each block of weights one absolute value, so that the network's file becomes smaller.

    ADMM pulls the weights towards unified ones. Then signs and zero blocks are fixed, and the
    network is retrained with one gradient for each block. The latency does not change: to make a
    network faster, use `prune`.

    Args:
        model: Trained network; it is copied, not changed.
        data: As for `prune`; a fifth is held out unless `val_data` are given.
        method: Blocks and the schedule of ADMM; by default blocks of one 3 x 3 kernel.
        training: Settings of the retraining (`epochs`, `lr`), and of both trainings: seed,
            precision and the user's own recipe.
        out_dir: Folder for unified.safetensors and unified.json; `Compressed.save` writes them as
            well.
        resume: Continue from the checkpoint that a stopped job left in `out_dir`; the result is
            the same as without the stop.
        progress: Called with every step.

    Raises:
        PruningError: Model, data or options are at fault, or a step of training fails.
    """
    if resume and out_dir is None:
        raise UsageError(
            "There is no folder to resume from.", "Give the folder of the stopped job (`out_dir`)."
        )
    settings = training or Training()
    request = JobRequest(
        model=model, data=data, val_data=val_data, settings=JobSettings(training=settings)
    )
    folder = None if out_dir is None else Path(out_dir)
    is_first = distributed.rank() == 0
    with folders.held(folder) if folder and is_first else contextlib.nullcontext():
        train, held_out = request.batches()
        settings = request.for_data(train).settings.training
        job = _Compression(
            model=copied(request.model),
            method=method or WeightUnification(block=DEFAULT_BLOCK),
            training=settings,
            train=train,
            held_out=held_out,
            journal=Journal(folder / FOLDER if folder else None, resume=resume),
            progress=progress if progress is not None and is_first else silent,
        )
        result = job.run()
        if folder is not None and is_first:
            result.save(folder)
        job.journal.close()
        return result


@dataclass(frozen=True, kw_only=True)
class _Compression:
    """One job."""

    #: Copy of the user's network, trained in place.
    model: nn.Module
    method: WeightUnification
    training: Training
    train: Batches
    held_out: Batches
    journal: Journal
    progress: Progress

    def run(self) -> Compressed:
        """Train, fix, retrain and pack."""
        weights = unifiable(self.model, self.method)
        mark_frozen(self.model)
        dense = copied(self.model).eval()
        content = save(_plain(dense))
        self.journal.check(self._identity(content))
        before = self._quality(dense)
        projection = BlockProjection(weights, self.method)
        torch.manual_seed(self.training.seed)
        history = self._unify(weights, projection, dense)
        check_finite(self.model, _RETRAINING)
        packed = pack(self.model.state_dict(), projection.blocks)
        return Compressed(
            module=self.model.eval(),
            file=packed,
            sizes=_sizes(content, packed),
            quality_before=before,
            quality_after=self._quality(self.model),
            zero_share=_zero_share(weights),
            options={"name": self.method.name, **options_of(self.method)},
            history=history,
        )

    def _unify(
        self, weights: Mapping[str, nn.Parameter], projection: BlockProjection, dense: nn.Module
    ) -> list[dict[str, Any]]:
        """Train with ADMM, then in the fixed pattern; the history of both."""
        steps = self.method.epochs * len(self.train)
        admm = Admm(list(weights.values()), projection, self.method, steps)
        history = train_admm(
            self.model,
            self.train,
            self.training,
            admm,
            self.method,
            progress=self.progress,
            evaluate=self._quality,
            journal=self.journal,
        )
        patterns = projection.fix(weights, admm.wanted)
        recalibrate_batch_norm(
            self.model,
            self.train,
            batches=self.training.recalibration_batches,
            seed=self.training.seed,
        )
        with held(weights, patterns):
            return history + self._retrain(dense)

    def _retrain(self, dense: nn.Module) -> list[dict[str, Any]]:
        return finetune(
            self.model,
            self.train,
            self.training,
            teacher=dense,
            progress=self.progress,
            phase=_RETRAINING,
            evaluate=self._quality,
            journal=self.journal,
            checkpoint=_RETRAINING,
        )

    def _quality(self, model: nn.Module) -> float:
        """Quality on the held-out data by the recipe's measure, per cent."""
        return quality(model, self.held_out, self.training.recipe)

    def _identity(self, content: bytes) -> str:
        """What decides the result, for the journal; the user's own recipe has no plain form."""
        plain = replace(self.training, recipe=Recipe())
        return f"{digest(content)} {self.method} {plain} {len(self.train)} {len(self.held_out)}"


def _plain(model: nn.Module) -> dict[str, torch.Tensor]:
    """Tensors of a state_dict that share no memory."""
    return {
        name: value.detach().cpu().clone().contiguous()
        for name, value in model.state_dict().items()
    }


def _sizes(dense: bytes, packed: bytes) -> StoredBytes:
    return StoredBytes(
        dense=len(dense),
        packed=len(packed),
        dense_gzip=len(gzip.compress(dense, mtime=0)),
        packed_gzip=len(gzip.compress(packed, mtime=0)),
    )


def _zero_share(weights: Mapping[str, nn.Parameter]) -> float:
    zeros = sum(int((weight == 0).sum()) for weight in weights.values())
    return zeros / sum(weight.numel() for weight in weights.values())
