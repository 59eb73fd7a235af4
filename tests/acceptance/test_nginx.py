"""The proxy of docker-compose.yml in front of two replicas: uploads with a token and without."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from latency_service.core.transport import Transport
from tests.support.databases import Clone
from tests.support.nginx import NGINX, start_nginx
from tests.support.processes import API_TOKEN, Stage, serve
from tests.support.sockets import connect, head, read_answer, send_what_goes
from tests.support.verifications import delivered

PATIENT = {"LATENCY_SERVICE_REFUSALS_BURST": "1000"}
#: What nginx would store in a file.
UPLOADED_BYTES = 2 << 20
HEAD = head("PUT", f"/v1/models/{'0' * 64}", content_length=str(UPLOADED_BYTES))


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed here")
def test_uploads_pass_the_proxy_and_without_a_token_none_is_read(
    stage: Stage, clone_sqlite: Clone
) -> None:
    database_url = clone_sqlite(True)
    replicas = [serve(stage, database_url, name, **PATIENT) for name in ("one", "two")]
    url, stored = start_nginx(stage, *(replica.url for replica in replicas))
    api = stage.open.enter_context(Transport(url, API_TOKEN))
    stage.eventually(lambda: api.request("GET", "/readyz"), "the proxy answers")

    # the answer comes while nearly all of the body is still to come
    with connect(url, HEAD, bytes(1000)) as waiting:
        assert read_answer(waiting)[0].startswith(b"HTTP/1.1 401")
    # a client that does not wait for it leaves nothing of its body there either
    with connect(url, HEAD) as hasty:
        send_what_goes(hasty, bytes(UPLOADED_BYTES // 2))
        assert [file for file in stored.rglob("*") if file.is_file()] == []
        assert read_answer(hasty)[0].startswith(b"HTTP/1.1 401")
    with ThreadPoolExecutor(4) as several:
        assert set(several.map(lambda _: hasty_status(url), range(60))) == {b"401"}

    file = delivered((12, 8))
    sha256 = hashlib.sha256(file).hexdigest()
    assert api.request("PUT", f"/v1/models/{sha256}", content=file).status_code == 201


def hasty_status(url: str) -> bytes:
    """The status of an upload that is sent as fast as it goes."""
    with connect(url, HEAD) as connection:
        send_what_goes(connection, bytes(UPLOADED_BYTES))
        return read_answer(connection)[0].split(b" ")[1]
