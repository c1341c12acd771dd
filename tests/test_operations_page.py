"""The commands and configurations of docs/operations.md, run as written."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from .pages import block
from .service import ROOT, Service, environment, serving
from .waiting import wait_until


async def test_the_page_explains_each_metric(client: httpx.AsyncClient) -> None:
    """What /metrics shows, but for the process's own figures, which one line of the page sums up."""
    page = (ROOT / "docs" / "operations.md").read_text().partition("## Metrics\n")[2].partition("\n## ")[0]
    explained = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.M))))
    shown = set(re.findall(r"^# TYPE (\w+)", (await client.get("/metrics")).text, re.M))
    assert {name for name in shown if not name.startswith("process_")} == explained


@pytest.mark.usefixtures("data_dir")
def test_the_embedded_data_are_restored_and_moved(tmp_path: Path) -> None:
    """A dump under the running service replaces what came later; another fills the data of a new version."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def type_in(commands: str) -> None:
        shell = environment(tmp_path, PATH=path)
        done = subprocess.run(
            ["sh", "-ec", commands], cwd=tmp_path, env=shell, capture_output=True, check=False
        )
        assert 0 == done.returncode, done.stderr.decode()

    dump, restore = block("operations.md", "Back up and restore", "sh").splitlines()
    with serving(tmp_path) as service:
        users = f"{service.url}/api/users"
        ada = httpx.post(users, json={"email": "ada@example.org"}).json()
        type_in(dump)
        bob = httpx.post(users, json={"email": "bob@example.org"}).json()
        type_in(restore)
        assert ada == httpx.get(f"{users}/{ada['id']}").json()
        assert 404 == httpx.get(f"{users}/{bob['id']}").status_code
    type_in(block("operations.md", "A new major version of PostgreSQL", "sh"))
    assert not (tmp_path / "data" / "data").exists()
    type_in(block("operations.md", "A new major version of PostgreSQL", "sh", 1))
    with serving(tmp_path) as service:
        assert ada == httpx.get(f"{service.url}/api/users/{ada['id']}").json()


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    """Without a warning, for a program that is there."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("this machine has no systemd-analyze: install the package systemd")
    unit = block("operations.md", "systemd", "ini").replace("/opt/todo-api/bin/todo-api", sys.executable)
    (tmp_path / "todo-api@8001.service").write_text(unit)
    verify = [analyze, "verify", "--man=no", str(tmp_path / "todo-api@8001.service")]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)


# The rest of a configuration of nginx around the page's part, which runs as the tests do, in one directory.
NGINX_CONF = """
pid pid;
error_log error.log;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include todo-api.conf;
}
"""

# systemctl leaves a note for the test and waits until the instance is restarted.
SHELL = """
nginx() { NGINX -p "$PWD" -c "$PWD/nginx.conf" "$@"; }
systemctl() { echo "${2#todo-api@}" > note.new; mv note.new note; while [ -e note ]; do sleep 0.02; done; }
"""


def test_two_instances_behind_nginx_are_restarted_in_turn(
    database_url: str, tmp_path: Path, short_path: Path
) -> None:
    """Under load no request fails; prefix, gzip and limits are as the page says."""
    program = shutil.which(
        "nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/bin"
    )
    if program is None or shutil.which("curl") is None:
        pytest.skip("this machine lacks nginx or curl: install the packages nginx-light and curl")
    with ExitStack() as listeners:
        free = [listeners.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        first, second, port = [str(listener.getsockname()[1]) for listener in free]

    def here(text: str) -> str:
        named = text.replace("8001", first).replace("8002", second).replace("sleep 1\n", "sleep 0.3\n")
        named = named.replace("listen 80;", f"listen 127.0.0.1:{port};").replace("/etc/nginx/conf.d/", "")
        return named.replace("NGINX", str(program))

    user = "user root;" if os.geteuid() == 0 else ""  # whose directory it is
    (short_path / "nginx.conf").write_text(user + NGINX_CONF)
    (short_path / "todo-api.conf").write_text(here(block("operations.md", "nginx", "nginx")))
    note, url = short_path / "note", f"http://127.0.0.1:{port}/todo"
    variables = {"DATABASE_URL": database_url, "ROOT_PATH": "/todo"}
    with ExitStack() as stack, ThreadPoolExecutor(1) as thread:

        def instance(port: str) -> Service:
            return stack.enter_context(serving(tmp_path, PORT=port, **variables))

        instances = {first: instance(first), second: instance(second)}
        command = [program, "-p", str(short_path), "-c", str(short_path / "nginx.conf"), "-g", "daemon off;"]
        gateway = stack.enter_context(subprocess.Popen(command))
        stack.callback(gateway.terminate)
        wait_until(lambda: gateway.poll() is not None or answers(int(port)))
        ada = httpx.post(f"{url}/api/users", json={"email": f"{uuid4().hex}@example.org"})
        tasks = f"{url}/api/{ada.json()['id']}/tasks"
        commands = SHELL + block("operations.md", "nginx", "sh")
        typed = stack.enter_context(subprocess.Popen(["sh", "-ec", here(commands)], cwd=short_path))

        def load() -> list[int]:
            seen = []
            while typed.poll() is None:
                seen.append(httpx.get(tasks).status_code)
                seen.append(httpx.post(tasks, json={"title": "x"}).status_code)
                time.sleep(0.005)
            return seen

        sending = thread.submit(load)
        while typed.poll() is None:
            if note.exists():
                restarted = note.read_text().strip()
                assert 0 == instances[restarted].stop()
                instances[restarted] = instance(restarted)
                note.unlink()
            time.sleep(0.02)
        assert 0 == typed.returncode
        assert {200, 201} == set(sending.result())
        assert len(sending.result()) > 20

        assert httpx.post(tasks, json={"title": "x"}).headers["location"].startswith("/todo/api/")
        assert "gzip" == httpx.get(tasks).headers["content-encoding"]
        problem = "application/problem+json"
        for size, kind in [(100_000, problem), (200_000, "text/html")]:
            refused = httpx.post(tasks, json={"title": "x" * size})
            assert (413, kind) == (refused.status_code, refused.headers["content-type"])
        for size, status, kind in [(70_000, 431, problem), (90_000, 400, "text/html")]:
            refused = httpx.get(tasks, headers={"X-Padding": "x" * size})
            assert (status, kind) == (refused.status_code, refused.headers["content-type"])


def answers(port: int) -> bool:
    """Whether something listens on a port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
