"""Requests made from the API's own description, and whether its answers keep to it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.config import (
    GenerationConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from latency_service.agent.testing import bearer

AGENTS_OWN = ("/v1/leases", "/v1/attempts/", "/v1/agents/")
#: It ends the attempt that others need.
LAST = "POST /v1/leases"
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
#: Whether a request can be meant depends on more than a schema can say: on a space's groups, on
#: the lease, or on the content of a file.
BY_CONTENT = {
    "POST /v1/predictors/{predictor_id}/predict",
    "DELETE /v1/devices/{name}/measurements",
    "PUT /v1/attempts/{attempt_id}/result",
    "POST /v1/spaces",
    "PUT /v1/models/{sha256}",
    "POST /v1/campaigns",
    "POST /v1/verifications",
}


@dataclass(frozen=True, kw_only=True)
class Callers:
    """Tokens of a user and of an agent, and ids that exist, by the name of their parameter."""

    user: str
    agent: str
    ids: Mapping[str, str]

    def headers(self, path: str) -> dict[str, str]:
        return bearer(self.agent if path.startswith(AGENTS_OWN) else self.user)


@dataclass
class Findings:
    """What was found of each operation."""

    answered: dict[str, set[int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def try_all(app: FastAPI, callers: Callers, examples: int) -> Findings:
    """Call every operation with `examples` valid and as many invalid requests."""
    found = Findings()
    schema = schemathesis.openapi.from_asgi(
        "/openapi.json", app, config=_config(), headers=bearer(callers.user)
    )
    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in sorted(operations, key=lambda one: one.label == LAST):
        for mode in MODES:
            _try(operation, mode, callers, examples, found)
    return found


def _config() -> SchemathesisConfig:
    """Tokens are the caller's; parameters that no route knows are ignored, as HTTP has it; and NUL
    characters, which the database does not take, are tried elsewhere.
    """
    generation = GenerationConfig(
        with_security_parameters=False, allow_extra_parameters=False, allow_x00=False
    )
    return SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(generation=generation)))


def _try(
    operation: Any, mode: GenerationMode, callers: Callers, examples: int, found: Findings
) -> None:
    known = st.booleans()

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), is_known=known)
    def one(case: Any, is_known: bool) -> None:
        if is_known and case.path_parameters:
            named = {
                name: callers.ids.get(name, value) for name, value in case.path_parameters.items()
            }
            case.path_parameters = named
        headers = callers.headers(operation.path)
        answer = case.call(headers=headers)
        found.answered.setdefault(operation.label, set()).add(answer.status_code)
        excluded = [positive_data_acceptance] if operation.label in BY_CONTENT else []
        case.validate_response(answer, headers=headers, excluded_checks=excluded)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            one()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE  # nothing about it could be wrong
            found.answered.setdefault(operation.label, set())
        except FailureGroup as group:
            found.failures += [f"{operation.label}: {failure}" for failure in group.exceptions]
        except Exception as error:  # noqa: BLE001 - told with the others
            found.failures.append(f"{operation.label}: {type(error).__name__}: {error}")
