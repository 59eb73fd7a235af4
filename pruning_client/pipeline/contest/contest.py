"""`compare_methods`: which method is best for one network on one device."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import nn

from latency_service.core.client import Client
from latency_service.core.files import write_whole
from pruning_client.data.batches import Batches
from pruning_client.errors import UsageError
from pruning_client.execution.journal import FOLDER, SHARED, Journal
from pruning_client.execution.progress import Progress, ProgressEvent, silent
from pruning_client.graph.traced import Deploy
from pruning_client.latency.budget import budget_text, parse_budget
from pruning_client.methods.base import Method
from pruning_client.methods.magnitude import Uniform
from pruning_client.methods.registry import METHODS, comparable
from pruning_client.pipeline import artifacts, folders
from pruning_client.pipeline.compare import front_of, read_report
from pruning_client.pipeline.contest.case import Case
from pruning_client.pipeline.contest.cluster import Cluster, ClusterWorkers
from pruning_client.pipeline.contest.entrants import Entrant, entrants_of
from pruning_client.pipeline.contest.equality import EqualLatency
from pruning_client.pipeline.contest.level import EQUAL_PERCENT
from pruning_client.pipeline.contest.steps import LocalWorkers, Workers
from pruning_client.pipeline.prepare import Prepared, analyse, prepare
from pruning_client.pipeline.prune import job_settings
from pruning_client.pipeline.quantisation_settings import Quantisation
from pruning_client.pipeline.settings import JobRequest
from pruning_client.pipeline.sweep import folder_of
from pruning_client.pipeline.verify import Verify
from pruning_client.reports.contest_schema import Contest, ContestEntry
from pruning_client.reports.html import render_contest
from pruning_client.reports.schema import Front
from pruning_client.service.campaign import Campaign
from pruning_client.service.connection import announce, connected
from pruning_client.service.target import TargetLike
from pruning_client.training.config import Training

CONTEST = "contest.json"
CONTEST_PAGE = "contest.html"


def compare_methods(
    model: nn.Module,
    data: Any,
    *,
    budgets: Sequence[str | float],
    out_dir: Path | str,
    methods: Sequence[Method] | None = None,
    seeds: int = 1,
    target: TargetLike | None = None,
    val_data: Any = None,
    training: Training | None = None,
    verify: Verify | None = None,
    campaign: Campaign | None = None,
    quantisation: Quantisation | None = None,
    equality: EqualLatency | None = None,
    deploy: Deploy | None = None,
    client: Client | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    cluster: Cluster | None = None,
) -> Contest:
    """Prune one network by several methods, and compare them at equal measured latency.

    Network, device, budget, data and training effort are the same for every method. The widths that
    a method chooses are corrected until its network is as fast as the others', measured side by
    side; then each is fine-tuned, and the delivered files are measured in turn. A method that fails
    is a row with its reason. The files of each method are in
    ``out_dir/BUDGET/seed-N/METHOD``, the comparison in contest.json and contest.html. Arguments
    that are not listed here are those of `prune`.

    Args:
        budgets: each as `prune` takes it.
        out_dir: folder of the contest.
        methods: with their options; by default every built-in one that prunes the given network,
            not a wider one.
        seeds: number of repetitions, with the seeds from that of `training` on. The held-out data
            are the same in all of them.
        training: its `epochs` are those of fine-tuning for the method that trains longest to choose
            the channels; the others fine-tune for so many epochs more.
        equality: how latencies are made equal.
        resume: continue a stopped contest: what is finished stays, and what was being trained goes
            on from its checkpoint. Budgets and seeds may be added.
        cluster: machines that train, such as a `RayCluster`; they never train while files are
            measured. By default this process does.

    Raises:
        PruningError, ApiError: as `prune`, when it concerns all methods.
    """
    chosen = comparable(METHODS.values()) if methods is None else list(methods)
    settings = job_settings(target, Uniform(), training, verify, campaign, quantisation)
    request = JobRequest(
        model=model, data=data, val_data=val_data, settings=settings, deploy=deploy
    )
    return contest_request(
        request,
        budgets,
        chosen,
        seeds=seeds,
        equality=equality,
        out_dir=out_dir,
        client=client,
        resume=resume,
        progress=progress,
        cluster=cluster,
    )


def contest_request(
    request: JobRequest,
    budgets: Sequence[str | float],
    methods: Sequence[Method],
    *,
    out_dir: Path | str,
    seeds: int = 1,
    equality: EqualLatency | None = None,
    client: Client | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    cluster: Cluster | None = None,
) -> Contest:
    """Do what a request asks with several methods, whatever its own; see `compare_methods`."""
    texts = _checked_budgets(budgets)
    first = request.settings.training.seed
    every_seed = range(first, first + _checked_seeds(seeds))
    _check_target(request)
    train, held_out = request.batches()
    filled = request.for_data(train)
    contest = _Contest(
        request=replace(filled, settings=replace(filled.settings, method=Uniform())),
        train=train,
        held_out=held_out,
        entrants=entrants_of(methods, filled.settings.training.finetune_epochs),
        budgets=texts,
        seeds=every_seed,
        equality=equality or EqualLatency(),
        out=Path(out_dir),
        command=_command(request, texts, methods, seeds),
    )
    with folders.held(contest.out), connected(client, announce) as service:
        prepared = contest.prepared(service, progress or silent, resume=resume)
        if cluster is None:
            workers: Workers = LocalWorkers(job=prepared.job, predictor=prepared.predictors[0])
            return contest.run(prepared, workers)
        with cluster.opened():
            workers = ClusterWorkers(
                cluster=cluster,
                request=contest.request,
                credentials=service.credentials,
                predictor_id=prepared.predictors[0].view.id,
            )
            return contest.run(prepared, workers)


@dataclass(frozen=True, kw_only=True)
class _Contest:
    """A contest that has been checked."""

    request: JobRequest
    train: Batches
    held_out: Batches
    entrants: Sequence[Entrant]
    budgets: Sequence[str]
    seeds: range
    equality: EqualLatency
    out: Path
    command: str

    def prepared(self, client: Client, progress: Progress, *, resume: bool) -> Prepared:
        """What all methods share: search space, dense network and predictor.

        Raises:
            UsageError: The folder holds another contest, and it is to be resumed.
        """
        journal = Journal(self._kept, resume=resume)
        job = analyse(
            self.request,
            self.train,
            self.held_out,
            client=client,
            progress=progress,
            folder=self.out,
            journal=journal,
            budget=None,
        )
        prepared = prepare(job, None)
        identity = {"methods": self._methods_as_plain(), "equality": asdict(self.equality)}
        journal.check(json.dumps(identity, sort_keys=True))
        return prepared

    def run(self, prepared: Prepared, workers: Workers) -> Contest:
        """Run every case, and write the comparison after each."""
        cases = [(budget, seed) for seed in self.seeds for budget in self.budgets]
        entries: list[ContestEntry] = []
        for done, (budget, seed) in enumerate(cases):
            self._report(prepared, done, len(cases))
            entries += self._case(prepared, workers, budget, seed).run()
            contest = self._contest(prepared, entries, self.seeds[: 1 + done // len(self.budgets)])
            self._write(contest)
        self._report(prepared, len(cases), len(cases))
        return contest

    @property
    def _kept(self) -> Path:
        return self.out / FOLDER

    def _case(self, prepared: Prepared, workers: Workers, budget: str, seed: int) -> Case:
        return Case(
            prepared=prepared,
            entrants=self.entrants,
            config=self.equality,
            workers=workers,
            budget=budget,
            seed=seed,
            out=self.out,
            kept=self._kept / folder_of(budget) / f"seed-{seed}",
            shared_folder=self._kept / SHARED / f"seed-{seed}",
            command=self.command,
        )

    @staticmethod
    def _report(prepared: Prepared, done: int, total: int) -> None:
        prepared.job.progress(
            ProgressEvent(phase="compare methods", done=done, total=total, unit="cases")
        )

    def _contest(
        self, prepared: Prepared, entries: Sequence[ContestEntry], seeds: Sequence[int]
    ) -> Contest:
        job = prepared.job
        first = self.entrants[0]
        return Contest(
            name=job.name,
            created_at=datetime.now(UTC),
            device=job.targets[0].device.name,
            runtime=job.targets[0].runtime,
            methods=[entrant.label for entrant in self.entrants],
            budgets=[budget for budget in self.budgets if _is_there(entries, budget)],
            seeds=list(seeds),
            epochs=first.own_epochs + first.finetune_epochs,
            allowed_percent=EQUAL_PERCENT,
            front=self._front(entries),
            entries=list(entries),
            config=self._config(),
            versions=artifacts.versions(),
            command=self.command,
        )

    def _front(self, entries: Sequence[ContestEntry]) -> Front:
        """All delivered files, each under its method's name in this contest."""
        named = [
            read_report(self.out / entry.result.folder).model_copy(update={"method": entry.method})
            for entry in entries
            if entry.result is not None
        ]
        return front_of(named, {})

    def _config(self) -> dict[str, Any]:
        shared = self.request.settings.as_plain()
        del shared["method"]
        return {**shared, "methods": self._methods_as_plain()}

    def _methods_as_plain(self) -> dict[str, Any]:
        """Options of each method, and its epochs; of an option that is no plain value, such as a
        function, the type's name.
        """
        settings = self.request.settings
        options = {
            entrant.label: {
                **replace(settings, method=entrant.method).as_plain()["method"],
                "finetune_epochs": entrant.finetune_epochs,
            }
            for entrant in self.entrants
        }
        plain: dict[str, Any] = json.loads(
            json.dumps(options, default=lambda value: type(value).__name__)
        )
        return plain

    def _write(self, contest: Contest) -> None:
        text = contest.model_dump_json(indent=2)
        write_whole(self.out / CONTEST, f"{text}\n".encode(), mode=0o644)
        write_whole(self.out / CONTEST_PAGE, render_contest(contest).encode(), mode=0o644)


def _is_there(entries: Sequence[ContestEntry], budget: str) -> bool:
    return any(entry.budget == budget for entry in entries)


def _checked_budgets(budgets: Sequence[str | float]) -> list[str]:
    if not budgets:
        raise UsageError("There is no budget.", 'Give one, such as "60%", or several.')
    for budget in budgets:
        parse_budget(budget)
    return list(dict.fromkeys(map(budget_text, budgets)))


def _checked_seeds(seeds: int) -> int:
    if seeds < 1:
        raise UsageError(f"{seeds} seeds are no repetition at all.", "Give 1 or more.")
    return seeds


def _check_target(request: JobRequest) -> None:
    if len(request.settings.targets) > 1:
        raise UsageError(
            "Methods are compared on one device, and several are given.",
            "Start one contest for each device.",
        )


def _command(
    request: JobRequest, budgets: Sequence[str], methods: Sequence[Method], seeds: int
) -> str:
    """What reports say to run: the request's own command, or the call of `compare_methods`."""
    if request.command_of is not None:
        return request.command_of(",".join(budgets))
    changed = request.settings.changed_arguments()
    changed.pop("method", None)
    arguments = [
        "model",
        "data",
        f"budgets={list(budgets)!r}",
        f"methods={list(methods)!r}",
        f"seeds={seeds}",
        *changed.values(),
    ]
    return f"compare_methods({', '.join(arguments)})"
