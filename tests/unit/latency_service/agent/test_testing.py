from __future__ import annotations

import subprocess
import sys

import httpx2
import pytest

from latency_service.agent.testing import FakeAgent, UnexpectedResponse, cost_ms


def test_it_imports_neither_the_service_nor_torch_nor_pytest() -> None:
    program = (
        "import sys, latency_service.agent.testing\n"
        "print([n for n in ('torch', 'fastapi', 'sqlalchemy', 'pytest') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_a_width_off_the_multiples_of_four_costs_more_than_the_next_multiple() -> None:
    assert cost_ms([15]) > cost_ms([16])
    assert cost_ms([12]) < cost_ms([16])


def test_a_refused_registration_is_an_error_that_shows_the_answer() -> None:
    transport = httpx2.MockTransport(lambda request: httpx2.Response(401, text="unknown token"))
    with (
        httpx2.Client(transport=transport, base_url="http://service") as http,
        pytest.raises(UnexpectedResponse, match=r"401 .*unknown token"),
    ):
        FakeAgent(http, "wrong")
