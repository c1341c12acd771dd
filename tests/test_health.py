"""What the health checks answer."""

import asyncio
from collections.abc import Callable

import httpx
import psycopg
import pytest
from psycopg import sql

from todo_api.app import create_app
from todo_api.operations import health
from todo_api.postgres import migrations
from todo_api.settings import Settings

from .api import assert_problem, make_user, talking_to
from .databases import END_WAITING, NewDatabase
from .waiting import eventually, wait_until

AWAY = Settings(database_url="postgresql:///todo?host=/nonexistent", pool_min_size=0)


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
async def test_all_is_well(client: httpx.AsyncClient, path: str) -> None:
    """Both probes answer 200, to GET and to HEAD."""
    response = await client.get(path)
    assert (200, {"status": "ok"}) == (response.status_code, response.json())
    assert 200 == (await client.head(path)).status_code


async def test_a_service_without_its_database_lives_and_is_not_ready() -> None:
    """While the database is away the service lives and says why it is not ready."""
    async with talking_to(create_app(AWAY)) as client:
        assert 200 == (await client.get("/health/live")).status_code
        response = await client.get("/health/ready")
        problem = assert_problem(response, 503, "unavailable")
        assert "The database does not answer." == problem["detail"]
        assert "retry-after" in response.headers


async def test_a_database_without_a_schema_is_not_ready(
    empty_database: NewDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """An empty database is told apart from one that is away."""
    async with talking_to(create_app(Settings(database_url=empty_database()))) as client:
        problem = assert_problem(await client.get("/health/ready"), 503, "schema-behind")
        assert "todo-api migrate" in problem["detail"]
    assert "Schema behind: SchemaBehind" in caplog.messages


async def test_ready_follows_the_schema(new_database: NewDatabase, as_owner: Callable[[str], str]) -> None:
    """A known migration that is not applied makes the service unready, an unknown one that is does not.

    Nor is it ready where the database does not tell.
    """
    url = new_database()
    async with talking_to(create_app(Settings(database_url=url))) as client:
        with psycopg.connect(as_owner(url), autocommit=True) as connection:
            connection.execute(
                "update _yoyo_migration set migration_id = '9999.of-the-future'"
                " where migration_id = (select max(migration_id) from _yoyo_migration)"
            )
            assert_problem(await client.get("/health/ready"), 503, "schema-behind")
            connection.execute(
                "insert into _yoyo_migration (migration_hash, migration_id, applied_at_utc)"
                " select md5(migration_hash), %s, applied_at_utc from _yoyo_migration"
                " where migration_id = '9999.of-the-future'",
                [migrations.known()[-1]],
            )
            assert 200 == (await client.get("/health/ready")).status_code
            connection.execute("alter table _yoyo_migration rename applied_at_utc to renamed")
            assert_problem(await client.get("/health/ready"), 503, "unavailable")


async def test_a_probe_is_not_kept_waiting(
    new_database: NewDatabase, as_owner: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is answered within the seconds that the document names, whatever holds the database up."""
    assert f"within {health._PATIENCE} s" in (health.HealthController.check_readiness.fn.__doc__ or "")
    monkeypatch.setattr(health, "_PATIENCE", 0.2)
    url = new_database()
    patient = Settings(database_url=url, pool_timeout=60, statement_timeout=60, lock_timeout=60)
    async with talking_to(create_app(patient)) as client:
        with psycopg.connect(as_owner(url)) as connection:
            connection.execute("lock table _yoyo_migration")
            async with asyncio.timeout(20):
                assert_problem(await client.get("/health/ready"), 503, "unavailable")


@pytest.mark.parametrize("table", ["_yoyo_migration", "tasks"])
async def test_a_probe_survives_a_broken_connection(
    table: str, new_database: NewDatabase, as_owner: Callable[[str], str]
) -> None:
    """Each of its statements is tried again."""
    url = new_database()
    connect = psycopg.AsyncConnection.connect
    async with (
        talking_to(create_app(Settings(database_url=url))) as client,
        await connect(as_owner(url)) as other,
        await connect(as_owner(url), autocommit=True) as owner,
    ):
        await other.execute(f"lock table {table}".encode())
        probe = asyncio.create_task(client.get("/health/ready"))

        async def broken() -> bool:
            return (await owner.execute(END_WAITING)).rowcount > 0

        await eventually(broken)
        await other.rollback()
        assert 200 == (await probe).status_code


async def test_a_database_that_takes_no_writes_is_not_ready(
    new_database: NewDatabase, as_owner: Callable[[str], str]
) -> None:
    """Read-only: 503, and ready again, without a restart, when it takes writes again. Nothing is written."""
    url = new_database()
    async with talking_to(create_app(Settings(database_url=url))) as client:
        assert 200 == (await client.get("/health/ready")).status_code
        for value, status in (("on", 503), ("off", 200)):
            with psycopg.connect(as_owner(url), autocommit=True) as connection:
                database = sql.Identifier(connection.info.dbname)
                change = "alter database {} set default_transaction_read_only = {}"
                connection.execute("set default_transaction_read_only = off")
                connection.execute(sql.SQL(change).format(database, sql.SQL(value)))
                connection.execute(
                    "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid()"
                )
            answer = await client.get("/health/ready")
            assert status == answer.status_code
            if status == 503:
                problem = assert_problem(answer, 503, "unavailable")
                assert "The database does not accept writes." == problem["detail"]


async def test_ready_locks_and_waits_for_nothing(
    new_database: NewDatabase, as_owner: Callable[[str], str]
) -> None:
    """A task that somebody holds locked keeps no probe waiting."""
    url = new_database()
    async with talking_to(create_app(Settings(database_url=url))) as client:
        await (await make_user(client)).creates()
        with psycopg.connect(as_owner(url)) as connection:
            assert 1 == connection.execute("select from tasks for update").rowcount
            assert 200 == (await client.get("/health/ready")).status_code


async def test_ready_needs_room_on_the_disk(
    new_database: NewDatabase, as_owner: Callable[[str], str]
) -> None:
    """The probe writes a temporary file of less than 100 kB, so it fails on a full disk."""
    url = new_database()
    async with talking_to(create_app(Settings(database_url=url))) as client:
        assert 200 == (await client.get("/health/ready")).status_code
    written = "select temp_files = 1 and temp_bytes < 100000 from pg_stat_database"
    with psycopg.connect(as_owner(url), autocommit=True) as connection:
        where = f"{written} where datname = current_database()".encode()
        wait_until(lambda: connection.execute(where).fetchone() == (True,))
