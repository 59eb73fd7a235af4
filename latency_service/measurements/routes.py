"""Routes of measurements."""

from __future__ import annotations

from fastapi import Request, Response
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool

from latency_service.auth.access import AgentToken, access, require_scope
from latency_service.core.kill_points import pass_kill_point
from latency_service.db.engine import Database
from latency_service.devices import service as devices_service
from latency_service.jobs.facts import JobSpec
from latency_service.jobs.schemas import ResultAnswer
from latency_service.measurements import peers, repeats, repository, results, service
from latency_service.measurements.schemas import MeasurementView, PeerView, ResultBody
from latency_service.settings import Settings
from latency_service.spaces import service as spaces_service
from latency_service.web.answers import errors
from latency_service.web.bodies import JSON, is_small
from latency_service.web.deps import Config, Data, Limit, Offset, ReadSession
from latency_service.web.routing import Router, body_kind, hot_route, read_json, validated

_RESULT = TypeAdapter(ResultBody)
_is_agent = require_scope("agent")

router = Router(prefix="/v1/measurements", tags=["measurements"], dependencies=access("read"))


@router.get("", responses=errors(404))
def list_measurements(
    session: ReadSession,
    space_id: str | None = None,
    device: str | None = None,
    campaign_id: str | None = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> list[MeasurementView]:
    """Measurements, newest first, without their raw rounds."""
    if device is not None:
        devices_service.get_device(session, device)
    wanted = spaces_service.get_space(session, space_id).id if space_id else None
    rows = repository.listed(
        session, space_id=wanted, device=device, campaign_id=campaign_id, limit=limit, offset=offset
    )
    return [service.show(row) for row in rows]


@router.get("/{measurement_id}")
def show_measurement(measurement_id: str, session: ReadSession) -> MeasurementView:
    """One measurement with its raw rounds and their canary readings."""
    return service.get(session, measurement_id)


comparison = Router(prefix="/v1/devices", tags=["devices"], dependencies=access("read"))


@comparison.get("/{name}/peers")
def compare_with_peers(name: str, session: ReadSession) -> list[PeerView]:
    """How a device differs from others with the same fingerprint, by their canaries and by the
    architectures that were measured on both.
    """
    return peers.compare(session, devices_service.get_device(session, name))


protocol = Router(prefix="/v1", tags=["agent protocol"], dependencies=access("agent"))


@protocol.put(
    "/attempts/{attempt_id}/result",
    status_code=201,
    responses={
        200: {"model": ResultAnswer, "description": "repeated, late or superseded"},
        **errors(400, 409, 410),
    },
)
@body_kind("result", compressible=True)
def put_result(
    attempt_id: str,
    body: ResultBody,
    principal: AgentToken,
    database: Data,
    settings: Config,
    response: Response,
) -> ResultAnswer:
    """Send what was measured. Idempotent: the same result may be sent again and is stored once."""
    agent_id = str(principal.agent_id)
    received = results.receive(database, results.wanted(database, agent_id, attempt_id), body)
    answer = _store(database, settings, agent_id, attempt_id, received)
    response.status_code = _status(answer)
    return answer


def _store(
    database: Database,
    settings: Settings,
    agent_id: str,
    attempt_id: str,
    received: results.Received,
) -> ResultAnswer:
    with database.write() as session:
        answer = results.accept(session, settings, agent_id, attempt_id, received)
        pass_kill_point("result-before-commit")
    if received.is_repeat:
        with database.write() as session:
            repeats.review(session, settings, attempt_id)
    pass_kill_point("result-stored-before-answer")
    return answer


def _status(answer: ResultAnswer) -> int:
    return 201 if answer.outcome == "accepted" else 200


async def _put_result_at_once(request: Request) -> Response:
    agent_id = str((await _is_agent(request)).agent_id)
    attempt_id, state = request.path_params["attempt_id"], request.app.state

    def wanted() -> JobSpec:
        return results.wanted(state.database, agent_id, attempt_id)

    # a large body of a result that nobody waits for is not read
    known = None if is_small(request) else await run_in_threadpool(wanted)
    value = await read_json(request, "result", compressible=True)

    def put() -> Response:
        body = validated(_RESULT, value, "body")
        received = results.receive(state.database, known or wanted(), body)
        answer = _store(state.database, state.settings, agent_id, attempt_id, received)
        return Response(answer.model_dump_json(), status_code=_status(answer), media_type=JSON)

    # in a thread from the validation on, which takes long for a large result
    return await run_in_threadpool(put)


HOT_ROUTES = [hot_route("/v1/attempts/{attempt_id}/result", _put_result_at_once, "PUT")]
