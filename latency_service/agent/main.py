"""An agent's run: identity, registration, measuring loop and exit codes."""

from __future__ import annotations

import platform
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

import onnx
import onnxruntime as ort
import structlog
from onnx import TensorProto, helper

from latency_service import __version__
from latency_service.agent.fingerprint import facts
from latency_service.agent.hardware import hardware_ids
from latency_service.agent.loop import AgentLoop, Displaced
from latency_service.agent.measuring.profiler import Profiler
from latency_service.agent.state import Identity, State
from latency_service.core.client.agent_client import AgentClient
from latency_service.core.kill_points import pass_kill_point
from latency_service.core.retry import Stopped, until_answered
from latency_service.core.transport import ApiError, Transport
from latency_service.devices.schemas import RegisterRequest

log = structlog.get_logger(__name__)

#: Exit codes, as every command of the project uses them.
OK = 0
FAILED = 1
AUTHENTICATION = 4


def run_agent(
    server: str,
    token: str | None,
    *,
    name: str | None,
    state_dir: Path,
    stop: threading.Event,
    make_profiler: Callable[[Path], Profiler] = Profiler,
    make_client: Callable[[Transport], AgentClient] = AgentClient,
) -> int:
    """Run this machine's agent until `stop` is set.

    Args:
        server: address of the service.
        token: enrolment token; needed until this machine has registered, and when the service
            refuses its own token.
        name: name of the device; by default, the host name.
        state_dir: folder for the agent's own token, its calibrations, and undelivered results.
        make_profiler: makes what measures, given `state_dir`.
        make_client: makes what speaks the job protocol over a connection.

    Returns:
        0 when stopped, 1 when registration is refused or another process uses a copy of this
        agent's state, 4 when the token is missing, unknown, revoked or expired.
    """
    state = State(state_dir)
    instance = uuid4().hex
    registration = _Registration(server, state, instance, stop, make_client)
    try:
        identity = registration.identity(token, name or default_name())
        pass_kill_point("registered-before-saving-state")
        state.keep_identity(identity)
        with Transport(server, identity.agent_token) as http:
            AgentLoop(
                make_client(http),
                make_profiler(state_dir),
                state,
                stop,
                max_opset=max_opset(),
                cadence=identity.cadence,
                instance=instance,
            ).run()
    except Stopped:
        return OK
    except NotEnrolled as error:
        return _say(AUTHENTICATION, str(error), error.cure)
    except Displaced:
        return _say(
            FAILED,
            f"Another process runs as this agent: the state folder {state_dir} was copied, on "
            "this machine or to another.",
            f"Give each agent a state folder of its own: for one of the two, remove "
            f"{state_dir / 'identity.json'} and start the agent with a new enrolment token and "
            "--name NAME.",
        )
    except ApiError as error:
        if error.status == 401:
            return _say(AUTHENTICATION, error.message, _enrol_cure(state))
        return _say(FAILED, error.message, error.cure)
    return OK


def default_name() -> str:
    """Host name, reduced to the characters that a device name may contain."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", platform.node()).strip("-._")[:80] or "device"


@lru_cache(maxsize=1)
def max_opset() -> int:
    """Newest ONNX opset that both onnx and ONNX Runtime accept on this machine, found by trial."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    cause = "onnx supports none"
    for opset in range(onnx.defs.onnx_opset_version(), 6, -1):
        ends = [
            helper.make_tensor_value_info(end, TensorProto.FLOAT, [1])
            for end in ("input", "output")
        ]
        graph = helper.make_graph(
            [helper.make_node("Relu", ["input"], ["output"])], "probe", ends[:1], ends[1:]
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
        )
        try:
            ort.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # noqa: BLE001 ONNX Runtime's errors share no public base
            cause = str(error)[:200]
        else:
            return opset
    raise RuntimeError(
        f"ONNX Runtime on this machine accepts no ONNX opset ({cause}): reinstall onnxruntime"
    )


class NotEnrolled(Exception):
    """This machine has no token of its own for the service, and no enrolment token."""

    cure = (
        "Create an enrolment token there with `latency-service enrolments create`, then start the "
        "agent with --token TOKEN."
    )

    def __init__(self, server: str) -> None:
        super().__init__(f"This machine has not registered at {server} yet.")


@dataclass(frozen=True)
class _Registration:
    """How this process registers at a service."""

    server: str
    state: State
    instance: str
    stop: threading.Event
    make_client: Callable[[Transport], AgentClient]

    def identity(self, enrolment: str | None, name: str) -> Identity:
        """Who this agent is. At every start it registers: the service must learn of an upgraded
        runtime. An enrolment token is used the first time, and where its own token is refused.

        Raises:
            NotEnrolled: it needs an enrolment token and has none.
            ApiError: the service refuses it.
        """
        known = self.state.identity()
        if known is None or known.server != self.server.rstrip("/"):
            return self._enrol(enrolment, name)
        try:
            return self._register(known.agent_token, known.device)
        except ApiError as error:
            if error.status != 401 or enrolment is None:
                raise
            return self._enrol_again(enrolment, known.device, error)

    def _enrol(self, enrolment: str | None, name: str) -> Identity:
        if enrolment is None:
            raise NotEnrolled(self.server)
        return self._register(enrolment, name, self.state.registration_key())

    def _enrol_again(self, enrolment: str, name: str, refusal: ApiError) -> Identity:
        try:
            return self._enrol(enrolment, name)
        except ApiError as error:
            # the enrolment token that it was started with once says nothing about the refusal
            raise refusal from error

    def _register(self, token: str, name: str, registration_key: str | None = None) -> Identity:
        request = _description(name, self.instance, registration_key)
        with Transport(self.server, token) as http:
            answer = until_answered(
                lambda: self.make_client(http).register(request), self.stop.wait
            )
        log.info("registered", device=name, agent=answer.agent_id)
        return Identity(
            server=self.server.rstrip("/"),
            device=name,
            agent_id=answer.agent_id,
            agent_token=answer.agent_token,
            cadence=answer.cadence,
        )


def _description(name: str, instance: str, registration_key: str | None) -> RegisterRequest:
    return RegisterRequest(
        device=name,
        agent_version=__version__,
        runtime_version=ort.__version__,
        max_opset=max_opset(),
        providers=ort.get_available_providers(),
        facts=facts(),
        hardware_ids=hardware_ids(),
        instance=instance,
        registration_key=registration_key,
    )


def _enrol_cure(state: State) -> str:
    """What to do about a token that the service refuses."""
    identity = state.identity()
    if identity is None:
        return "Start the agent with a new enrolment token: latency-service enrolments create."
    return (
        "Start the agent with a new enrolment token for this device: "
        f"latency-service enrolments create --device {identity.device}. Its own is in "
        f"{state.folder / 'identity.json'}."
    )


def _say(code: int, message: str, cure: str) -> int:
    print(f"{message} {cure}", file=sys.stderr)
    return code
