"""The service as Python sees it: typed calls over HTTP."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latency_service.campaigns.schemas import CampaignRequest, CampaignView
from latency_service.core.client.access import AccessRequests
from latency_service.core.client.connection import TRIES, segment
from latency_service.core.files import write_whole
from latency_service.core.transport import ApiError
from latency_service.dashboard.schemas import SignInCodeView
from latency_service.devices.schemas import DeviceView, RuntimeConfig
from latency_service.jobs.schemas import JobView
from latency_service.lattices.schemas import LatticeView
from latency_service.measurements.schemas import MeasurementView, PeerView
from latency_service.predictors.schemas import Prediction, PredictorView, PredictRequest
from latency_service.retention.schemas import Forgotten
from latency_service.runs.schemas import (
    RunFailure,
    RunProgress,
    RunReport,
    RunRequest,
    RunView,
)
from latency_service.spaces.schemas import SpaceView
from latency_service.verifications.schemas import VerifyRequest

if TYPE_CHECKING:
    from latency_service.core.arrays import Floats32
    from latency_service.predictors.binary import BinaryAnswer
    from latency_service.spaces.slicing import SearchSpace

#: Architectures in one request for predictions.
MAX_BATCH = 4096
_OCTETS = {"content-type": "application/octet-stream"}
#: Runs to a page: the service reads the whole report of each.
_RUN_ROWS = 100


class Client(AccessRequests):
    """A connection to a latency service.

    Requests that can be repeated without harm are repeated when the service does not answer. Calls
    raise `latency_service.core.transport.ApiError` with cause and cure (`Unreachable` when there is
    no answer at all).

    Args:
        url: by default LATENCY_SERVICE_URL, then the embedded service's address.
        token: API token; by default LATENCY_SERVICE_TOKEN, then, for an address of this machine
            only, the one that `latency-service up` keeps.
        cache_dir: folder of predictor artifacts, by default ``$XDG_CACHE_HOME/latency-service``.
        tries: maximum number of tries of a request that can be repeated without harm.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        cache_dir: Path | None = None,
        tries: int = TRIES,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(url, token, tries=tries, sleep=sleep, clock=clock)
        self._cache = cache_dir or _folder("XDG_CACHE_HOME", ".cache")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def is_ready(self) -> bool:
        """Whether the database answers and is migrated."""
        return bool(self._request("GET", "/readyz").status_code == 200)

    # devices and spaces

    def devices(self) -> list[DeviceView]:
        return self._all(DeviceView, "/v1/devices")

    def device(self, name: str) -> DeviceView:
        return self._one(DeviceView, f"/v1/devices/{segment(name)}")

    def quarantine_device(self, name: str, reason: str) -> DeviceView:
        """Give a device no more work until it is released."""
        path = f"/v1/devices/{segment(name)}/quarantine"
        answer = self._request("POST", path, json={"reason": reason}, repeatable=False)
        return DeviceView.model_validate_json(answer.content)

    def release_device(self, name: str) -> DeviceView:
        """End a device's quarantine."""
        answer = self._request("POST", f"/v1/devices/{segment(name)}/release")
        return DeviceView.model_validate_json(answer.content)

    def peers(self, name: str) -> list[PeerView]:
        """How a device differs from others with the same fingerprint."""
        return self._many(PeerView, f"/v1/devices/{segment(name)}/peers")

    def forget_device(self, name: str) -> Forgotten:
        """Delete everything measured on a device, with the predictors and lattices made from it."""
        path = f"/v1/devices/{segment(name)}/measurements"
        answer = self._request("DELETE", path, params={"confirm": name}, repeatable=False)
        return Forgotten.model_validate_json(answer.content)

    def create_sign_in_code(self) -> SignInCodeView:
        """A link that signs a browser in to the dashboard, once, as the holder of this token."""
        answer = self._request("POST", "/v1/sign-in-codes", repeatable=False)
        return SignInCodeView.model_validate_json(answer.content)

    def create_space(self, space: SearchSpace) -> SpaceView:
        """Store a search space; one that is known already is returned as it is."""
        return self.upload_space(space.data)[0]

    def upload_space(self, data: bytes) -> tuple[SpaceView, bool]:
        """Store the file of a search space; (its view, whether it is new)."""
        answer = self._request("POST", "/v1/spaces", content=data, headers=_OCTETS)
        return SpaceView.model_validate_json(answer.content), answer.status_code == 201

    def spaces(self) -> list[SpaceView]:
        return self._all(SpaceView, "/v1/spaces")

    def space_view(self, space_id: str) -> SpaceView:
        """Groups and size of a search space, by its id or a unique prefix of it."""
        return self._one(SpaceView, f"/v1/spaces/{segment(space_id)}")

    def space(self, space_id: str) -> SearchSpace:
        """The search space itself, checked against its hash.

        Raises:
            SpaceError: what came is no search space.
        """
        from latency_service.spaces.slicing import (
            SearchSpace,
        )  # imports onnx, which commands do not need

        view = self.space_view(space_id)
        return SearchSpace.from_bytes(
            self._request("GET", f"/v1/spaces/{view.id}/graph.onnx").content
        )

    # campaigns and measurements

    def create_campaign(self, request: CampaignRequest) -> CampaignView:
        answer = self._request(
            "POST",
            "/v1/campaigns",
            json=request.model_dump(mode="json", exclude_unset=True),
            repeatable=False,
        )
        return CampaignView.model_validate_json(answer.content)

    def cancel_campaign(self, campaign_id: str) -> CampaignView:
        """Stop a campaign; its measurements stay."""
        answer = self._request("POST", f"/v1/campaigns/{segment(campaign_id)}/cancel")
        return CampaignView.model_validate_json(answer.content)

    def campaign(self, campaign_id: str) -> CampaignView:
        return self._one(CampaignView, f"/v1/campaigns/{segment(campaign_id)}")

    def campaigns(self, **filters: Any) -> list[CampaignView]:
        """All campaigns, newest first; filters: `device`, `space_id`, `state`."""
        return self._all(CampaignView, "/v1/campaigns", **filters)

    def wait_for_campaign(
        self,
        campaign_id: str,
        *,
        timeout_seconds: float,
        on_view: Callable[[CampaignView], None] | None = None,
    ) -> CampaignView:
        """Wait until a campaign is done, failed or cancelled; `on_view` sees every look at it.

        Raises:
            Timeout: it is still running; it goes on in the service.
        """
        cure = f"It goes on: `latency-service campaigns show {campaign_id}`."
        return self._wait(
            lambda: self.campaign(campaign_id),
            lambda view: view.state != "running",
            f"Campaign {campaign_id}",
            timeout_seconds,
            cure,
            on_view,
        )

    def measurements_page(
        self, *, limit: int, offset: int = 0, **filters: Any
    ) -> list[MeasurementView]:
        """Some measurements, newest first; filters: `space_id`, `device`, `campaign_id`."""
        return self._many(
            MeasurementView, "/v1/measurements", **filters, limit=limit, offset=offset
        )

    def measurements(self, **filters: Any) -> list[MeasurementView]:
        """All measurements, newest first; filters: `space_id`, `device`, `campaign_id`."""
        return self._all(MeasurementView, "/v1/measurements", **filters)

    def measurement(self, measurement_id: str) -> MeasurementView:
        """One measurement with its rounds."""
        return self._one(MeasurementView, f"/v1/measurements/{segment(measurement_id)}")

    # lattices and predictors

    def lattices(self, *, device: str | None = None) -> list[LatticeView]:
        return self._all(LatticeView, "/v1/lattices", device=device)

    def lattice(self, lattice_id: str) -> LatticeView:
        return self._one(LatticeView, f"/v1/lattices/{segment(lattice_id)}")

    def predictors(
        self,
        *,
        space_id: str | None = None,
        device: str | None = None,
        runtime: RuntimeConfig | str | None = None,
    ) -> list[PredictorView]:
        """All predictors, newest first; `runtime` is a configuration or its key."""
        key = runtime.key if isinstance(runtime, RuntimeConfig) else runtime
        return self._all(
            PredictorView, "/v1/predictors", space_id=space_id, device=device, runtime=key
        )

    def predictor(self, predictor_id: str) -> PredictorView:
        return self._one(PredictorView, f"/v1/predictors/{segment(predictor_id)}")

    def artifact(self, view: PredictorView) -> bytes:
        """The predictor's ONNX file: from the disk when its hash is right, else fetched and kept.

        Raises:
            ApiError: the file that came has another hash than the predictor's.
        """
        path = self._cache / "predictors" / f"{view.artifact_sha256}.onnx"
        if path.exists() and (kept := path.read_bytes()) and _sha256(kept) == view.artifact_sha256:
            tag = {"if-none-match": f'"{view.artifact_sha256}"'}
            answer = self._request("GET", f"/v1/predictors/{view.id}/artifact", headers=tag)
            if answer.status_code == 304:
                return kept
        else:
            answer = self._request("GET", f"/v1/predictors/{view.id}/artifact")
        data = bytes(answer.content)
        if _sha256(data) != view.artifact_sha256:
            raise ApiError(
                0,
                "corrupt",
                f"The artifact of predictor {view.id} does not have the hash that the service "
                "says.",
                "Try again; if it stays so, the service's storage is damaged.",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
        return data

    def predict(
        self, predictor_id: str, widths: Sequence[Sequence[float]], *, gradient: bool = False
    ) -> Prediction:
        """Predictions for `widths` [B][G] in channels."""
        request = PredictRequest(widths=[list(row) for row in widths], gradient=gradient)
        answer = self._request(
            "POST",
            f"/v1/predictors/{segment(predictor_id)}/predict",
            json=request.model_dump(exclude_unset=True),
        )
        return Prediction.model_validate_json(answer.content)

    def predict_batch(self, predictor_id: str, widths: Floats32, *, gradient: bool) -> BinaryAnswer:
        """Predictions for `widths` [B, G] in channels in the binary form, in requests of at most
        `MAX_BATCH`.

        Always the predictor's own, never a measurement, so that value and gradient belong together.
        """
        from latency_service.predictors.binary import decode_answer, encode, join

        path = f"/v1/predictors/{segment(predictor_id)}/predict"
        params = {"gradient": str(gradient).lower()}
        parts = [
            decode_answer(
                self._request(
                    "POST", path, content=encode([part]), params=params, headers=_OCTETS
                ).content,
                widths.shape[1],
                gradient=gradient,
            )
            for part in (
                widths[start : start + MAX_BATCH] for start in range(0, len(widths), MAX_BATCH)
            )
        ]
        return parts[0] if len(parts) == 1 else join(parts)

    # reports

    def report(self, subject_id: str) -> str:
        """The report of a predictor, a campaign or a target: an HTML page that is one file."""
        return bytes(self._request("GET", f"/reports/{segment(subject_id)}").content).decode()

    # verification

    def upload_model(self, data: bytes) -> str:
        """Store a model file until its verification has ended; returns its SHA-256."""
        digest = _sha256(data)
        self._request("PUT", f"/v1/models/{digest}", content=data, headers=_OCTETS)
        return digest

    def create_verification(self, request: VerifyRequest) -> JobView:
        answer = self._request(
            "POST",
            "/v1/verifications",
            json=request.model_dump(mode="json", exclude_unset=True),
            repeatable=False,
        )
        return JobView.model_validate_json(answer.content)

    def job(self, job_id: str) -> JobView:
        return self._one(JobView, f"/v1/jobs/{segment(job_id)}")

    def wait_for_job(self, job_id: str, *, timeout_seconds: float) -> JobView:
        """Wait until a job is done, failed or cancelled.

        Raises:
            Timeout: no agent has finished it.
        """
        cure = "See whether the device's agent is online: `latency-service devices list`."
        return self._wait(
            lambda: self.job(job_id),
            lambda view: view.state not in ("queued", "leased"),
            f"Job {job_id}",
            timeout_seconds,
            cure,
        )

    # runs

    def create_run(self, request: RunRequest) -> RunView:
        answer = self._request(
            "POST", "/v1/runs", json=request.model_dump(mode="json"), repeatable=False
        )
        return RunView.model_validate_json(answer.content)

    def report_progress(self, run_id: str, news: RunProgress) -> None:
        """Say how far a run is. It is tried once: who reports goes on and reports again."""
        path = f"/v1/runs/{segment(run_id)}/progress"
        body = news.model_dump(mode="json", exclude_unset=True)
        self._request("PUT", path, json=body, repeatable=False)

    def finish_run(self, run_id: str, report: dict[str, Any]) -> RunView:
        """Record the report of a run that has ended."""
        body = RunReport(report=report).model_dump(mode="json")
        answer = self._request("PUT", f"/v1/runs/{segment(run_id)}/report", json=body)
        return RunView.model_validate_json(answer.content)

    def fail_run(self, run_id: str, message: str) -> None:
        """Record that a run has ended without a result."""
        body = RunFailure(message=message).model_dump(mode="json")
        self._request("PUT", f"/v1/runs/{segment(run_id)}/failure", json=body)

    def runs(self) -> list[RunView]:
        """All runs, newest first."""
        return self._all(RunView, "/v1/runs", rows=_RUN_ROWS)

    def run(self, run_id: str) -> RunView:
        return self._one(RunView, f"/v1/runs/{segment(run_id)}")


def _folder(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback) / "latency-service"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
