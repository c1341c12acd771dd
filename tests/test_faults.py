"""The database goes away, gets stuck or is cut off, under load; the service is killed: nothing is lost.

The figures are printed: ``pytest -rP tests/test_faults.py``.
"""

import asyncio
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg import sql

from todo_api.app import create_app
from todo_api.settings import Settings

from .api import assert_problem, make_user, talking_to
from .databases import NewDatabase, waiting
from .load import Load
from .outage import CUT, Server
from .service import Service, serving
from .waiting import HEALING, wait_until

CROWD = 150
# Less than by default, so that less waiting is enough.
LIMITS = {"POOL_TIMEOUT": "2.5", "STATEMENT_TIMEOUT": "2", "LOCK_TIMEOUT": "1"}
BOUND = 45.0  # seconds, in which what takes at most ten happens on a crowded machine, too


async def test_a_crowd_behind_a_lock_is_turned_away(tmp_path: Path, new_database: NewDatabase) -> None:
    """With every connection stuck, all requests end in 503 and write nothing, ever; then service resumes."""
    database = new_database()
    with serving(tmp_path, DATABASE_URL=database, **LIMITS) as service, psycopg.connect(database) as other:
        everybody = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=service.url, limits=everybody, timeout=90) as client:
            user = (await client.post("/api/users", json={"email": "ada@example.org"})).json()["id"]
            path = f"/api/{user}/tasks"
            other.execute("lock table tasks")
            began = time.monotonic()
            requests = [client.post(path, json={"title": "stuck"}) for _ in range(CROWD // 2)]
            requests += [client.get(path) for _ in range(CROWD // 2)]
            responses = await asyncio.gather(*requests)
            took = time.monotonic() - began
            assert {503: CROWD} == Counter(response.status_code for response in responses)
            for response in responses:
                assert_problem(response, 503, response.json()["type"].removeprefix("/problems/"))
                assert int(response.headers["retry-after"]) > 0
            assert took < BOUND
            other.rollback()
            freed = time.monotonic()
            while (created := await client.post(path, json={"title": "free"})).status_code == 503:
                assert time.monotonic() - freed < BOUND
            assert 201 == created.status_code
            healed = time.monotonic() - freed
            titles = [task["title"] for task in (await client.get(path)).json()]
    print(f"{CROWD} x 503 within {took:.1f} s; served {healed:.2f} s after the lock went")
    assert ["free"] == titles


def test_those_who_leave_cost_nobody_a_connection(tmp_path: Path, new_database: NewDatabase) -> None:
    """A hundred clients hang up while their statements are stuck: others are served before the lock goes."""
    database = new_database()
    with serving(tmp_path, DATABASE_URL=database, **LIMITS) as service, psycopg.connect(database) as other:
        user = httpx.post(f"{service.url}/api/users", json={"email": "ada@example.org"}).json()["id"]
        other.execute("lock table tasks")
        address = urlsplit(service.url)
        head = f"GET /api/{user}/tasks HTTP/1.1\r\nHost: test\r\n\r\n"
        clients = [socket.create_connection((str(address.hostname), address.port or 0)) for _ in range(100)]
        for client in clients:
            client.sendall(head.encode())
        wait_until(lambda: waiting(database) > 0)
        for client in clients:
            client.close()
        began = time.monotonic()
        while httpx.get(f"{service.url}/api/users/{user}", timeout=60).status_code != 200:
            assert time.monotonic() - began < BOUND
        print(f"served {time.monotonic() - began:.2f} s after they left")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_killed_database_is_waited_for(workers: str, tmp_path: Path, own_server: Server) -> None:
    """SIGKILL to PostgreSQL under load: 503 until it is back, and then no restart is needed."""
    arguments = {"DATABASE_URL": own_server.url, "WORKERS": workers}
    with serving(tmp_path, "--migrate", **arguments) as service, Load(service.url) as load:
        load.goes_on()
        own_server.kill()
        wait_until(lambda: load.answers[503] >= 4)
        own_server.start()
        heals(load)
        load.goes_on()
    assert {201, 503} == load.answers.keys()
    assert not load.failures
    load.assert_nothing_lost(own_server.url)


def test_a_frozen_database_is_waited_for(tmp_path: Path, own_server: Server) -> None:
    """SIGSTOP to PostgreSQL under load: it hangs, the service does not, and says so until it runs on."""
    with (
        serving(tmp_path, "--migrate", DATABASE_URL=own_server.url, **LIMITS) as service,
        Load(service.url) as load,
    ):
        load.goes_on()
        own_server.signal(signal.SIGSTOP)
        for path, expected in {"live": 200, "ready": 503}.items():
            answer = httpx.get(f"{service.url}/health/{path}", timeout=BOUND)
            print(f"{path}: {answer.status_code} after {answer.elapsed.total_seconds():.2f} s")
            assert expected == answer.status_code
        wait_until(lambda: load.answers[503] >= 12)
        own_server.signal(signal.SIGCONT)
        heals(load)
        load.goes_on()
        assert 200 == httpx.get(f"{service.url}/health/ready", timeout=BOUND).status_code
    assert {201, 503} == load.answers.keys()
    assert not load.failures
    load.assert_nothing_lost(own_server.url)


def test_a_crash_of_the_database_is_waited_for(tmp_path: Path, own_server: Server) -> None:
    """SIGKILL to one session, upon which PostgreSQL ends all of them and recovers: 503 until it has."""
    with serving(tmp_path, "--migrate", DATABASE_URL=own_server.url) as service, Load(service.url) as load:
        load.goes_on()
        with psycopg.connect(own_server.url) as connection:
            victim = connection.info.backend_pid
            os.kill(victim, signal.SIGKILL)
        heals(load)
        load.goes_on()
    assert {201, 503} >= load.answers.keys()
    assert not load.failures
    load.assert_nothing_lost(own_server.url)


def heals(load: Load) -> None:
    """Wait until the next task is acknowledged."""
    count, began = len(load.acknowledged), time.monotonic()
    wait_until(lambda: len(load.acknowledged) > count)
    healed = time.monotonic() - began
    print(f"healed {healed:.2f} s after the database was back")
    assert healed < HEALING


@pytest.mark.parametrize("how", ["restart", "terminate"])
async def test_connections_that_were_cut_cost_nothing(how: str, tmp_path: Path, own_server: Server) -> None:
    """Idle connections end by a restart or as Neon cuts them: no read and no create with a key fails."""
    with serving(tmp_path, "--migrate", DATABASE_URL=own_server.url) as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            user = (await client.post("/api/users", json={"email": "ada@example.org"})).json()["id"]
            path = f"/api/{user}/tasks"

            async def crowd() -> list[int]:
                def key() -> dict[str, str]:
                    return {"Idempotency-Key": uuid4().hex}

                requests = [client.get(path, params={"q": "milk"}) for _ in range(10)]
                requests += [client.get(path) for _ in range(10)]
                requests += [client.post(path, json={"title": "x"}, headers=key()) for _ in range(10)]
                return [response.status_code for response in await asyncio.gather(*requests)]

            expected = [200] * 20 + [201] * 10
            assert expected == await crowd()
            for _ in range(2):
                if how == "restart":
                    await asyncio.to_thread(own_server.stop)
                    await asyncio.to_thread(own_server.start)
                else:
                    with psycopg.connect(own_server.url, autocommit=True) as connection:
                        connection.execute(CUT)
                assert expected == await crowd()
            assert 30 == len((await client.get(path)).json())


def test_a_create_with_a_key_happens_once_across_kills(tmp_path: Path, own_server: Server) -> None:
    """SIGKILL to the service, PostgreSQL and both, under clients who try again: each task exists once."""
    with ExitStack() as services:

        def serve() -> Service:
            return services.enter_context(serving(tmp_path, "--migrate", DATABASE_URL=own_server.url))

        service = serve()
        with Load(service.url, insist=True) as load:
            for victims in ("service", "database", "both"):
                load.goes_on()
                if victims != "database":
                    service.process.kill()
                if victims != "service":
                    own_server.kill()
                    own_server.start()
                if victims != "database":
                    service = serve()
                    load.url = service.url
            load.goes_on()
        load.assert_nothing_lost(own_server.url)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_outage_ends(workers: str, tmp_path: Path, own_server: Server) -> None:
    """Every session is cut every 10 ms for 1 s under reading clients: afterwards a read is served at once."""
    with serving(tmp_path, "--migrate", DATABASE_URL=own_server.url, WORKERS=workers) as service:
        user = httpx.post(f"{service.url}/api/users", json={"email": "ada@example.org"}).json()["id"]
        path, over, answers = f"{service.url}/api/users/{user}", Event(), Counter[int]()

        def read() -> None:
            with httpx.Client(timeout=BOUND) as client:
                while not over.is_set():
                    answers[client.get(path).status_code] += 1
                    time.sleep(0.005)

        readers = [Thread(target=read) for _ in range(6)]
        for reader in readers:
            reader.start()
        with psycopg.connect(own_server.url, autocommit=True) as connection:
            cutting_ends = time.monotonic() + 1
            while time.monotonic() < cutting_ends:
                connection.execute(CUT)
                time.sleep(0.01)
        ended = time.monotonic()
        with httpx.Client(timeout=BOUND) as client:
            while client.get(path).status_code != 200:
                assert time.monotonic() - ended < BOUND
            healed = time.monotonic() - ended
            over.set()
            for reader in readers:
                reader.join()
            sound = [client.get(path).status_code for _ in range(50)]
    print(f"healed in {healed:.3f} s; while sessions were cut and after: {dict(answers)}")
    assert healed < 2
    assert [200] * 50 == sound


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_a_stricter_isolation_level_fails_no_toggle(
    level: str, new_database: NewDatabase, as_owner: Callable[[str], str]
) -> None:
    """Whatever the database's default, twenty toggles at once all succeed, and none is lost."""
    url = new_database()
    with psycopg.connect(as_owner(url), autocommit=True) as connection:
        database = sql.Identifier(connection.info.dbname)
        change = "alter database {} set default_transaction_isolation = {}"
        connection.execute(sql.SQL(change).format(database, level))
    async with talking_to(create_app(Settings(database_url=url))) as client:
        ada = await make_user(client)
        task = await ada.creates()
        toggles = [client.patch(f"{ada.path(task)}/complete") for _ in range(20)]
        answers = await asyncio.gather(*toggles)
        assert [200] * 20 == [answer.status_code for answer in answers]
        assert 20 == len({answer.json()["updated_at"] for answer in answers})
        assert task["completed"] == (await client.get(ada.path(task))).json()["completed"]
