"""Architectures that a campaign measures per minute, and the share of its time in timed runs.

A whole service with its agent, as `latency-service up` starts it, and a campaign over architectures
of ResNet-20, from its request to its last measurement. Beside it the usual pipeline on a few of the
same architectures: prune the torch model, `torch.onnx.export` (its faster exporter), a session, ten
runs to warm up, the median of fifty.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch

from benchmarks.cases.materialise import export
from benchmarks.support.harness import Outcome, at_least
from benchmarks.support.networks import resnet20
from benchmarks.support.peers import MEDIAN_RUNS, session_of, time_runs
from benchmarks.support.subjects import subjects
from latency_service.agent.measuring.sessions import random_feeds
from latency_service.campaigns.schemas import CampaignRequest, CampaignView
from latency_service.core.client import Client
from pruning_client.graph import proof
from pruning_client.graph.space import make_space
from pruning_client.graph.surgery import slim
from pruning_client.service.embedded import embedded_service


def run(quick: bool) -> Outcome:
    count, exported = (6, 2) if quick else (128, 8)
    space, widths = subjects(resnet20, count)
    with tempfile.TemporaryDirectory() as folder, embedded_service(Path(folder)) as service:
        client = service.client
        view = service.client.create_space(space)
        # the first job of a target calibrates its canaries: once in its life, not once a campaign
        _measured(client, _request(view.id, service.device, widths[:2]))
        campaign = _measured(client, _request(view.id, service.device, widths))
        rows = client.measurements(campaign_id=campaign.id)
        jobs = [client.job(job_id) for job_id in {row.job_id for row in rows}]
    assert campaign.finished_at is not None
    wall = (campaign.finished_at - campaign.created_at).total_seconds()
    timed = sum(attempt.timed_seconds or 0.0 for job in jobs for attempt in job.attempts)
    precise = sum(row.summary.verdict == "ok" for row in rows)
    rate = 60 * precise / wall
    usual = 60 / _usual_seconds(widths[:exported])
    return Outcome(
        bars=[
            at_least("wall time of the campaign inside timed runs", 100 * timed / wall, 70, "%"),
            at_least("architectures measured to 1 % a minute", rate, 60, "a minute"),
        ],
        rows=[
            {"way": "this service", "architectures a minute": f"{rate:.0f}"},
            {"way": "torch export, 50 runs", "architectures a minute": f"{usual:.1f}"},
            {"way": "ratio", "architectures a minute": f"{rate / usual:.1f}"},
        ],
        data={
            "architectures": len(rows),
            "precise": precise,
            "wall_seconds": wall,
            "timed_seconds": timed,
            "per_minute": rate,
            "usual_per_minute": usual,
            "ratio": rate / usual,
            "latency_ms": sorted(row.summary.latency_ms for row in rows),
            "quiet_share": statistics.fmean(row.summary.quiet_share for row in rows),
        },
    )


def _request(space_id: str, device: str, widths: Sequence[Sequence[int]]) -> CampaignRequest:
    return CampaignRequest(
        space_id=space_id,
        device=device,
        purpose="measure",
        widths=[list(row) for row in widths],
        repeats=0,
    )


def _measured(client: Client, request: CampaignRequest) -> CampaignView:
    return client.wait_for_campaign(client.create_campaign(request).id, timeout_seconds=1800)


def _usual_seconds(widths: Sequence[Sequence[int]]) -> float:
    """Mean seconds for one architecture in the usual pipeline."""
    model, example = resnet20()
    twin = proof.redrawn(model)
    traced = make_space(twin, example)
    began = time.perf_counter()
    for row in widths:
        small = slim(twin, traced, [np.arange(width) for width in row])
        graph = onnx.load_model_from_string(export(small, example, dynamo=False))
        feeds = random_feeds(graph, 0)
        with torch.no_grad():
            statistics.median(time_runs(session_of(graph), feeds, MEDIAN_RUNS))
    return (time.perf_counter() - began) / len(widths)
