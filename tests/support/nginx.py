"""nginx with the configuration of `deploy/`, without the container around it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from tests.support.processes import Stage, free_port

CONFIG = Path(__file__).parents[2] / "deploy" / "nginx.conf"
NGINX = shutil.which("nginx")


def start_nginx(stage: Stage, *replicas: str) -> tuple[str, Path]:
    """Start nginx in front of services, given by their addresses (``http://…``).

    Returns:
        Its address, and the folder where it stores bodies that it does not pass on at once.
    """
    port = free_port()
    folder = stage.folder / "nginx"
    folder.mkdir()
    config = folder / "nginx.conf"
    config.write_text(_without_container(CONFIG.read_text(), folder, port, replicas))
    # the workers' own user does not reach the folders of a test
    user = "user root; " if os.geteuid() == 0 else ""
    words = ("-c", str(config), "-p", str(folder), "-g", f"{user}daemon off;")
    stage.start("nginx", *words, command=(str(NGINX),))
    return f"http://127.0.0.1:{port}", folder / "client_body"


def _without_container(text: str, folder: Path, port: int, replicas: tuple[str, ...]) -> str:
    """The configuration for other addresses, and for an nginx that knows no `resolve`."""
    servers = "\n".join(
        f"server {url.removeprefix('http://')} max_fails=2 fail_timeout=5s;" for url in replicas
    )
    changes = [
        (r"server service:8760 resolve [^;]*;", servers),
        (r"listen 8080;", f"listen 127.0.0.1:{port};"),
        (r"/tmp/", f"{folder}/"),
        (r"/dev/stdout", f"{folder}/access"),
        (r"worker_connections \d+;", "worker_connections 64;"),
    ]
    for old, new in changes:
        text, count = re.subn(old, new, text)
        assert count, old
    return text
