"""An agent's run: identity, registration, measuring loop and exit codes."""

from __future__ import annotations

import platform
import re
import sys
import threading
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
from latency_service.core.retry import Stopped, until_answered
from latency_service.core.transport import ApiError, Transport
from latency_service.devices.schemas import RegisterRequest

log = structlog.get_logger(__name__)

#: Exit codes, as every command of the project uses them.
OK = 0
FAILED = 1
AUTHENTICATION = 4


def run_agent(
    server: str, token: str | None, *, name: str | None, state_dir: Path, stop: threading.Event
) -> int:
    """Run this machine's agent until `stop` is set.

    Args:
        server: address of the service.
        token: enrolment token; needed until this machine has registered, ignored afterwards.
        name: name of the device; by default, the host name.
        state_dir: folder for the agent's own token, its calibrations, and undelivered results.

    Returns:
        0 when stopped, 1 when registration is refused or another process uses a copy of this
        agent's state, 4 when the token is missing or unknown.
    """
    state = State(state_dir)
    instance = uuid4().hex
    try:
        identity = state.identity()
        if identity is None or identity.server != server.rstrip("/"):
            if token is None:
                return _say(
                    AUTHENTICATION,
                    f"This machine has not registered at {server} yet.",
                    "Create an enrolment token there with `latency-service enrolments create`, "
                    "then start the agent with --token TOKEN.",
                )
            identity = _register(server, token, name or default_name(), instance, stop)
        else:  # the service must learn of an upgraded runtime
            identity = _register(server, identity.agent_token, identity.device, instance, stop)
        state.keep_identity(identity)
        with Transport(server, identity.agent_token) as http:
            AgentLoop(
                AgentClient(http),
                Profiler(state_dir),
                state,
                stop,
                max_opset=max_opset(),
                cadence=identity.cadence,
                instance=instance,
            ).run()
    except Stopped:
        return OK
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
            return _say(
                AUTHENTICATION,
                error.message,
                f"Remove {state_dir / 'identity.json'} and start the agent with a new "
                "enrolment token.",
            )
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


def _register(server: str, token: str, name: str, instance: str, stop: threading.Event) -> Identity:
    request = RegisterRequest(
        device=name,
        agent_version=__version__,
        runtime_version=ort.__version__,
        max_opset=max_opset(),
        providers=ort.get_available_providers(),
        facts=facts(),
        hardware_ids=hardware_ids(),
        instance=instance,
    )
    with Transport(server, token) as http:
        answer = until_answered(lambda: AgentClient(http).register(request), stop.wait)
    log.info("registered", device=name, agent=answer.agent_id)
    return Identity(
        server=server.rstrip("/"),
        device=name,
        agent_id=answer.agent_id,
        agent_token=answer.agent_token,
        cadence=answer.cadence,
    )


def _say(code: int, message: str, cure: str) -> int:
    print(f"{message} {cure}", file=sys.stderr)
    return code
