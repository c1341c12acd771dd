"""Errors that arise below the routes: each is told in one format, and tells nothing of its cause."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from errno import EMFILE, ENOENT
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import psycopg
import pytest
from psycopg import errors
from psycopg_pool import PoolTimeout, TooManyRequests

from todo_api.app import create_app
from todo_api.http.errors import translate
from todo_api.http.problems import problem_types
from todo_api.settings import Settings

from .api import OPERATIONS, USER_OPERATIONS, User, assert_problem, make_user, talking_to
from .databases import NewDatabase, waiting
from .waiting import wait_until


@pytest.fixture
def own_settings(settings: Settings, new_database: NewDatabase) -> Settings:
    """Settings for a database of the test's own, and a pool of one connection not waited for long."""
    return msgspec.structs.replace(
        settings, database_url=new_database(), pool_min_size=1, pool_max_size=1, pool_timeout=2
    )


@pytest.fixture
async def owner(own_settings: Settings) -> AsyncIterator[User]:
    """A user in that database."""
    async with talking_to(create_app(own_settings)) as client:
        yield await make_user(client)


@pytest.fixture
def admin(own_settings: Settings, as_owner: Callable[[str], str]) -> Iterator[psycopg.Connection]:
    """A connection of that database's owner."""
    assert own_settings.database_url is not None
    with psycopg.connect(as_owner(own_settings.database_url), autocommit=True) as connection:
        yield connection


@asynccontextmanager
async def altered(settings: Settings, admin: psycopg.Connection, *changes: str) -> AsyncIterator[User]:
    """A user of a service whose database was altered before it started."""
    for change in changes:
        admin.execute(f"alter database {admin.info.dbname} {change}".encode())
    async with talking_to(create_app(settings)) as client:
        yield User(client, str(uuid4()))


def assert_told_to_retry(response: httpx.Response, slug: str) -> None:
    """Check that a response is a 503 that says when to come back."""
    assert_problem(response, 503, slug)
    assert re.fullmatch(r"[1-9]\d*", response.headers["retry-after"])


PROBLEMS = {
    400: ["bad-request", "malformed-body"],
    401: ["unauthorized"],
    403: ["forbidden"],
    404: ["not-found", "task-not-found", "user-not-found"],
    405: ["method-not-allowed"],
    408: ["too-slow"],
    409: ["email-taken"],
    412: ["precondition-failed", "task-changed"],
    413: ["body-too-large"],
    415: ["unsupported-media-type"],
    422: ["idempotency-key-reused", "invalid-request"],
    431: ["head-too-large"],
    500: ["internal-error"],
    503: ["schema-behind", "timed-out", "unavailable"],
}


def test_each_kind_of_problem_is_its_own() -> None:
    """A type is a stable relative URI, with a status, a title and a sentence that a person can act on."""
    kinds = problem_types()
    expected = [(status, f"/problems/{slug}") for status, slugs in PROBLEMS.items() for slug in slugs]
    assert expected == [(kind.status_code, kind.uri) for kind in kinds]
    assert len(kinds) == len({kind.title for kind in kinds})
    assert all(kind.detail.endswith(".") for kind in kinds)
    limits = {kind.status_code: number for kind in kinds for number in re.findall(r" (\d+) ", kind.detail)}
    assert {408: "10", 413: "65536", 431: "65536"} == limits


@pytest.mark.parametrize(
    ("method", "path", "body"), [*OPERATIONS, *USER_OPERATIONS, ("GET", "/health/ready", None)]
)
async def test_a_database_that_is_away(
    settings: Settings, caplog: pytest.LogCaptureFixture, method: str, path: str, body: Any
) -> None:
    """503 on each operation, within the pool's timeout, and a warning; the service starts and lives."""
    away = msgspec.structs.replace(
        settings, database_url="postgresql://u:s3cret@127.0.0.1:1/todo", pool_min_size=0, pool_timeout=0.05
    )
    async with talking_to(create_app(away)) as client:
        response = await client.request(method, path.format(user_id=uuid4(), task_id=uuid4()), json=body)
    assert (503, "1") == (response.status_code, response.headers["retry-after"])
    assert method == "HEAD" or assert_problem(response, 503, "unavailable")
    assert not re.search("s3cret|127.0.0.1|todo", response.text)
    [record] = [record for record in caplog.records if record.name == "todo_api.http.errors"]
    assert ("WARNING", None) == (record.levelname, record.exc_info)
    assert "Unavailable: PoolTimeout" == record.getMessage()


async def test_a_read_behind_a_stuck_write(
    admin: psycopg.Connection, owner: User, own_settings: Settings
) -> None:
    """A read on the connection of a write that waits for a lock is repeated when that session is ended."""
    task, url = await owner.creates(), str(own_settings.database_url)
    with admin.transaction():
        admin.execute("lock table tasks")
        stuck = asyncio.create_task(owner.client.patch(owner.path(task), json={"title": "stuck"}))
        await asyncio.to_thread(wait_until, lambda: waiting(url))
        started = time.monotonic()
        response = await owner.client.get(f"/api/users/{owner.id}")
        assert 200 == response.status_code
        assert 0.3 < time.monotonic() - started < 10
    assert_told_to_retry(await stuck, "unavailable")


async def test_a_write_that_is_told_to_be_lost_is_lost(admin: psycopg.Connection, owner: User) -> None:
    """A 503 means that nothing was written, nor will be."""
    task = await owner.creates()
    with admin.transaction():
        admin.execute("lock table tasks")
        response = await owner.client.patch(owner.path(task), json={"title": "stuck"})
        assert_told_to_retry(response, "unavailable")
    assert [task] == await owner.lists()


async def test_a_statement_that_takes_too_long(
    own_settings: Settings, admin: psycopg.Connection, owner: User
) -> None:
    """It is stopped by the database, nothing is written, and the client told to come back."""
    task = await owner.creates()
    hasty = msgspec.structs.replace(own_settings, statement_timeout=0.1)
    async with altered(hasty, admin) as other:
        with admin.transaction():
            admin.execute("lock table tasks")
            assert_told_to_retry(await other.client.patch(owner.path(task), json={"title": "x"}), "timed-out")
        assert [task] == await owner.lists()


async def test_a_database_that_only_reads(own_settings: Settings, admin: psycopg.Connection) -> None:
    """Such as a standby, before another takes over: reads go on, writes are told to come back."""
    async with altered(own_settings, admin, "set default_transaction_read_only = on") as user:
        assert_told_to_retry(await user.client.post("/api/users", json={"email": "a@b.c"}), "unavailable")
        assert_problem(await user.client.get(f"/api/users/{user.id}"), 404, "user-not-found")


async def test_a_defect_is_logged_and_not_told(
    admin: psycopg.Connection, owner: User, caplog: pytest.LogCaptureFixture
) -> None:
    """The client learns the request's id only, and the log the stack, but nothing that a client sent."""
    admin.execute("alter table tasks rename column title to name")
    response = await owner.client.post(
        owner.tasks, json={"title": "s3cret"}, headers={"X-Request-Id": "find-me"}
    )
    assert_problem(response, 500, "internal-error")
    assert not re.search(
        r"s3cret|tasks\b.*(relation|exist)|sql|select|insert|psycopg|line", response.text, re.I
    )
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert ("find-me", "todo_api.http.errors") == (vars(record)["request_id"], record.name)
    assert "Internal error: UndefinedColumn 42703" == record.getMessage()
    text = logging.Formatter().format(record)
    assert "Traceback" in text
    assert "s3cret" not in text


async def test_times_and_dates_do_not_hang_on_the_server(
    own_settings: Settings, admin: psycopg.Connection
) -> None:
    """A database that prefers another time zone and other ways to write a date changes nothing."""
    async with altered(
        own_settings,
        admin,
        "set timezone = 'Asia/Kathmandu'",
        "set datestyle = 'SQL, DMY'",
        "set intervalstyle = 'iso_8601'",
        "set bytea_output = 'escape'",
    ) as nobody:
        ada = await make_user(nobody.client)
        task = await ada.creates()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", task["created_at"])
        headers = {"If-Match": f'"{task["updated_at"]}"'}
        assert 200 == (await ada.client.patch(ada.path(task), json={}, headers=headers)).status_code
        assert 1 == len(await ada.lists(updated_since=task["updated_at"]))
        admin.execute("set timezone = 'UTC'")
        query = "select to_char(created_at, 'HH24:MI:SS.US') from tasks"
        (created,) = admin.execute(query).fetchone() or ("",)
        assert created in task["created_at"]


@pytest.mark.parametrize(
    ("constraint", "slug"),
    [
        ("unique", "internal-error"),
        ("constraint users_email_key_102008 unique", "email-taken"),  # as Citus names a shard's
        ("references parents", "internal-error"),
        ("constraint tasks_user_id_fkey_102010 references parents", "user-not-found"),
    ],
)
def test_a_violation_means_what_its_constraint_says(
    database: psycopg.Connection, constraint: str, slug: str
) -> None:
    """Only that of a known name is the client's: another one is a defect."""
    with database.transaction(force_rollback=True):
        database.execute("create temporary table parents (id int primary key)")
        database.execute(f"create temporary table children (id int {constraint})".encode())
        with pytest.raises(psycopg.IntegrityError) as raised:
            database.execute("insert into children values (1), (1)")
    assert f"/problems/{slug}" == translate(raised.value).uri


@pytest.mark.parametrize(
    ("error", "slug"),
    [
        (PoolTimeout(), "unavailable"),
        (TooManyRequests(), "unavailable"),
        (psycopg.OperationalError("the connection is closed"), "unavailable"),
        (errors.AdminShutdown(), "unavailable"),
        (errors.CannotConnectNow(), "unavailable"),
        (errors.TooManyConnections(), "unavailable"),
        (errors.ConnectionFailure(), "unavailable"),
        (errors.DiskFull(), "unavailable"),
        (errors.ReadOnlySqlTransaction(), "unavailable"),
        (errors.QueryCanceled(), "timed-out"),
        (errors.LockNotAvailable(), "timed-out"),
        (errors.UniqueViolation(), "email-taken"),
        (errors.ForeignKeyViolation(), "user-not-found"),
        (errors.NotNullViolation(), "internal-error"),
        (errors.UndefinedTable(), "unavailable"),
        (errors.InsufficientPrivilege(), "unavailable"),
        (errors.UndefinedColumn(), "internal-error"),
        (errors.NumericValueOutOfRange(), "internal-error"),
        (OSError(EMFILE, "too many open files"), "unavailable"),
        (OSError(ENOENT, "no such file"), "internal-error"),
        (ZeroDivisionError(), "internal-error"),
    ],
    ids=repr,
)
def test_what_the_database_says(error: Exception, slug: str) -> None:
    """What passes by itself is worth a retry; what is nobody's fault but ours is a defect."""
    assert f"/problems/{slug}" == translate(error).uri
