"""A browser without scripts, for the dashboard's pages and forms."""

from __future__ import annotations

import re

from httpx2 import Response
from starlette.testclient import TestClient

from tests.support.settings import API_TOKEN

HTML = {"accept": "text/html"}


class Browser:
    """A client that keeps cookies and sends forms with the hidden fields of their pages."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def open(self, path: str, **headers: str) -> Response:
        return self.client.get(path, headers={**HTML, **headers}, follow_redirects=False)

    def send(self, page: str, action: str, fields: dict[str, str], **headers: str) -> Response:
        """Send a form of a page: its hidden fields, and `fields`, which replace them."""
        hidden = hidden_fields(self.open(page).text)
        return self.client.post(
            action, data={**hidden, **fields}, headers={**HTML, **headers}, follow_redirects=False
        )

    def sign_in(self, token: str = API_TOKEN, wanted: str = "") -> Response:
        return self.send(f"/signin?next={wanted}", "/signin", {"token": token})


def hidden_fields(text: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text))
