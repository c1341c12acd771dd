"""Behind nginx: weak tags, a path prefix, kept connections, and no smuggled request."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from .service import serving
from .waiting import wait_until

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/bin")
PREFIX = "/todo"

# The lines that the documentation of nginx has for WebSockets, keep-alive to the service, and gzip.
CONFIGURATION = """
daemon off;
pid {directory}/pid;
error_log {directory}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    gzip on;
    gzip_types application/json;
    gzip_min_length 1;
    upstream service {{ server {service}; keepalive 4; }}
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    server {{
        listen 127.0.0.1:{port};
        location {prefix}/ {{
            proxy_pass http://service/;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }}
        location {prefix}/api/forbidden {{ return 403; }}
    }}
}}
"""


def answers(port: int) -> bool:
    """Whether something listens on a port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def gateway(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with a path prefix, behind nginx, which removes the prefix."""
    if NGINX is None:
        pytest.skip("this machine has no nginx: install the package nginx-light")
    directory = tmp_path_factory.mktemp("nginx")
    with ExitStack() as stack:
        service = stack.enter_context(serving(directory, DATABASE_URL=database_url, ROOT_PATH=PREFIX))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        file = Path(directory / "nginx.conf")
        values = {
            "directory": directory,
            "service": urlsplit(service.url).netloc,
            "port": port,
            "prefix": PREFIX,
        }
        user = "user root;" if os.geteuid() == 0 else ""  # whose directory it is
        file.write_text(user + CONFIGURATION.format(**values))
        process = stack.enter_context(subprocess.Popen([NGINX, "-c", str(file), "-p", str(directory)]))
        stack.callback(process.terminate)
        url = f"http://127.0.0.1:{port}{PREFIX}"
        wait_until(lambda: process.poll() is not None or answers(port))
        yield url


@pytest.fixture
def user(gateway: str) -> str:
    """The URL of a user's tasks, as the gateway has it."""
    answer = httpx.post(f"{gateway}/api/users", json={"email": f"{uuid4().hex}@example.org"})
    assert answer.headers["location"].startswith(f"{PREFIX}/api/users/")
    return f"{gateway}/api/{answer.json()['id']}/tasks"


def test_a_tag_that_gzip_has_weakened_still_guards_a_write(user: str) -> None:
    """Nginx makes the tag weak when it compresses; If-Match accepts it, and refuses it once it is old."""
    task = httpx.post(user, json={"title": "x"}).json()
    read = httpx.get(f"{user}/{task['id']}", headers={"Accept-Encoding": "gzip"})
    assert read.headers["etag"].startswith('W/"')
    headers = {"If-Match": read.headers["etag"]}
    assert 200 == httpx.patch(f"{user}/{task['id']}", json={"title": "y"}, headers=headers).status_code
    assert 412 == httpx.patch(f"{user}/{task['id']}", json={"title": "z"}, headers=headers).status_code
    assert 304 == httpx.get(f"{user}/{task['id']}", headers={"If-None-Match": "*"}).status_code


def test_links_lead_back_through_the_prefix(gateway: str, user: str) -> None:
    """Location, Link, the pages and the document name paths that the gateway serves."""
    origin = gateway.removesuffix(PREFIX)
    for _ in range(2):
        created = httpx.post(user, json={"title": "x"})
        assert 200 == httpx.get(origin + created.headers["location"]).status_code
    following = httpx.get(user, params={"limit": 1}).headers["link"].partition(">")[0][1:]
    assert 1 == len(httpx.get(origin + following).json())
    page = httpx.get(f"{gateway}/schema")
    assert "swagger-ui-bundle.js" in page.text
    assert 200 == httpx.get(f"{gateway}/schema/assets/swagger-ui-bundle.js").status_code
    assert [{"url": PREFIX}] == httpx.get(f"{gateway}/schema/openapi.json").json()["servers"]


@pytest.mark.parametrize("split", [False, True])
def test_a_body_behind_an_upgrade_is_no_request(gateway: str, user: str, split: bool) -> None:
    """A DELETE in the body of a request that asks for an upgrade is not executed, ten times of ten."""
    task = httpx.post(user, json={"title": "stays"}).json()
    path, address = urlsplit(user).path, urlsplit(gateway)
    smuggled = f"DELETE {path.removeprefix(PREFIX)}/{task['id']} HTTP/1.1\r\nHost: a\r\n\r\n"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(smuggled)}\r\n\r\n"
    )
    for _ in range(10):
        with socket.create_connection((str(address.hostname), address.port or 0), timeout=10) as client:
            for part in (head, smuggled) if split else (head + smuggled,):
                client.sendall(part.encode())
            assert client.recv(65536).startswith(b"HTTP/1.1 400 ")
            client.shutdown(socket.SHUT_WR)
            rest = b""
            while more := client.recv(65536):
                rest += more
            assert b"HTTP/1.1 204" not in rest
        assert 200 == httpx.get(f"{user}/{task['id']}").status_code


def test_kept_connections_lose_no_request(user: str) -> None:
    """Nginx keeps its connections to the service shorter than the service does: no request is a 502."""
    with httpx.Client() as client:
        assert {201} == {client.post(user, json={"title": "x"}).status_code for _ in range(200)}
