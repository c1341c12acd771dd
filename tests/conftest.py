"""A real PostgreSQL for every test, and helpers that read like prose."""

import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import httpx
import psycopg
import pytest
from litestar import Litestar
from psycopg import sql

from todo_api.app import create_app
from todo_api.postgres import embedded, migrations
from todo_api.settings import Settings

from .engines import IN_A_HURRY, postgresql
from .service import ROOT, serving


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With TEST_POSTGRES, leave out the tests that do not use it: they would do the same again."""
    # A shell's background job ignores SIGINT, and so would every process that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "TEST_POSTGRES" in os.environ:
        alike = [item for item in items if "postgres" not in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=alike)
        items[:] = [item for item in items if item not in alike]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop that the service runs on."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a database whose server the tests may fill: TEST_DATABASE_URL, or one of their own.

    That is the embedded one, or a new one made by the programs in the directory TEST_POSTGRES.
    """
    if url := os.environ.get("TEST_DATABASE_URL"):
        name = urlsplit(url).path.lstrip("/")
        if "test" not in name:
            pytest.exit(f"TEST_DATABASE_URL names the database {name!r}: its name must contain 'test'.", 2)
        yield url
    elif programs := os.environ.get("TEST_POSTGRES"):
        with postgresql(Path(programs), locale="C.UTF-8") as one:
            yield one.url
    else:
        with embedded.running(tmp_path_factory.mktemp("postgres"), settings=IN_A_HURRY) as url:
            yield url


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose name leaves room for a socket's."""
    with TemporaryDirectory(prefix="todo-test-", dir="/tmp") as directory:
        yield Path(directory)


NewDatabase = Callable[[], str]


@pytest.fixture(scope="session")
def application_role(postgres: str) -> Iterator[str | None]:
    """The login of the service, dropped at the end; None where TEST_DATABASE_URL's may not make one."""
    name = f"todo_test_{uuid4().hex[:12]}"
    role = sql.Identifier(name)
    with psycopg.connect(postgres, autocommit=True) as connection:
        try:
            connection.execute(sql.SQL("create role {} login password {}").format(role, name))
        except psycopg.errors.InsufficientPrivilege:
            yield None
        else:
            yield name
            connection.execute(sql.SQL("drop role {}").format(role))


@pytest.fixture(scope="session")
def empty_database(postgres: str, application_role: str | None) -> Iterator[NewDatabase]:
    """Makes databases without a schema, dropped at the end: before the role, which may do things in them."""
    with _databases(postgres, "template1") as make:
        yield make


@pytest.fixture(scope="session")
def new_database(
    postgres: str, empty_database: NewDatabase, application_role: str | None
) -> Iterator[NewDatabase]:
    """Makes databases with the current schema: copies of one that was migrated once.

    The URLs are the service's, which may do what it needs to; ``as_owner`` gives the one who may do all.
    """
    template = empty_database()
    migrations.apply(template, lambda _: None)
    if application_role:
        with psycopg.connect(template) as connection:
            connection.execute(post_apply(application_role))
    with _databases(postgres, urlsplit(template).path.lstrip("/")) as make:
        yield lambda: as_login(make(), application_role) if application_role else make()


def post_apply(role: str) -> bytes:
    """What ends each ``migrate``, for this role in place of ``todo_app``."""
    return (ROOT / "migrations" / "post-apply.sql").read_text().replace("todo_app", role).encode()


def as_login(url: str, name: str) -> str:
    """The same URL for a login whose password is its name."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{name}:{name}@{parts.netloc.rpartition('@')[2]}"))


@pytest.fixture(scope="session")
def as_owner(postgres: str) -> Callable[[str], str]:
    """Turns the URL of a database into that of its owner."""
    return lambda url: urlunsplit(urlsplit(url)._replace(netloc=urlsplit(postgres).netloc))


@contextmanager
def _databases(server: str, template: str) -> Iterator[NewDatabase]:
    made = []
    with psycopg.connect(server, autocommit=True) as connection:

        def make() -> str:
            name = f"todo_test_{uuid4().hex[:12]}"
            names = sql.Identifier(name), sql.Identifier(template)
            connection.execute(sql.SQL("create database {} template {} strategy file_copy").format(*names))
            made.append(name)
            return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))

        yield make
        for name in made:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def database_url(new_database: NewDatabase) -> str:
    """A database that most tests share; each makes its own users in it."""
    return new_database()


@pytest.fixture(scope="session")
def settings(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings for the shared database."""
    return Settings(database_url=database_url, pool_min_size=1, data_dir=tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def app(settings: Settings) -> Litestar:
    """The application on the shared database."""
    return create_app(settings)


@pytest.fixture(scope="session")
async def client(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the application, in this process."""
    async with talking_to(app) as client:
        yield client


@asynccontextmanager
async def talking_to(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """Start the application and talk to it."""
    transport = httpx.ASGITransport(cast("Any", app), raise_app_exceptions=False)
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.fixture(scope="session")
def server(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server process on the shared database, for what only a socket shows."""
    with serving(tmp_path_factory.mktemp("server"), DATABASE_URL=database_url) as service:
        yield service.url


@pytest.fixture(scope="session")
def database(database_url: str, as_owner: Callable[[str], str]) -> Iterator[psycopg.Connection]:
    """The shared database, for rows that its owner types by hand."""
    with psycopg.connect(as_owner(database_url), autocommit=True) as connection:
        yield connection


class User:
    """Somebody who uses the API."""

    def __init__(self, client: httpx.AsyncClient, id: str) -> None:
        self.client = client
        self.id = id
        self.tasks = f"/api/{id}/tasks"

    async def creates(self, title: str = "Buy milk", **fields: Any) -> dict[str, Any]:
        """Create a task and return it."""
        response = await self.client.post(self.tasks, json={"title": title, **fields})
        assert 201 == response.status_code, response.text
        task: dict[str, Any] = response.json()
        return task

    async def lists(self, **parameters: Any) -> list[dict[str, Any]]:
        """List a page of tasks."""
        response = await self.client.get(self.tasks, params=parameters)
        assert 200 == response.status_code, response.text
        tasks: list[dict[str, Any]] = response.json()
        return tasks

    def path(self, task: dict[str, Any]) -> str:
        """The path of a task, as this user would ask for it."""
        return f"{self.tasks}/{task['id']}"


async def make_user(client: httpx.AsyncClient) -> User:
    """Add a user nobody else knows of."""
    response = await client.post("/api/users", json={"email": f"{uuid4().hex}@example.org"})
    assert 201 == response.status_code, response.text
    return User(client, response.json()["id"])


@pytest.fixture
async def ada(client: httpx.AsyncClient) -> User:
    """A user."""
    return await make_user(client)


@pytest.fixture
async def bob(client: httpx.AsyncClient) -> User:
    """Another user."""
    return await make_user(client)


def assert_problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """Check that a response is this problem, whole, and return it."""
    assert status == response.status_code, response.text
    assert "application/problem+json" == response.headers["content-type"]
    problem: dict[str, Any] = response.json()
    assert f"/problems/{slug}" == problem["type"]
    assert status == problem["status"]
    assert problem["title"] and problem["detail"]
    assert response.request.url.raw_path.split(b"?")[0].decode() == problem["instance"]
    assert response.headers["x-request-id"] == problem["request_id"]
    return problem


TASK = "/api/{user_id}/tasks/{task_id}"

# Every operation on what a user has: method, path, body.
OPERATIONS: list[tuple[str, str, Any]] = [
    ("GET", TASK, None),
    ("HEAD", TASK, None),
    ("PUT", TASK, {"title": "Buy tea", "description": None, "completed": True}),
    ("PATCH", TASK, {"title": "Buy tea"}),
    ("DELETE", TASK, None),
    ("PATCH", TASK + "/complete", None),
    ("PATCH", TASK + "/complete", {"completed": True}),
]
USER_OPERATIONS: list[tuple[str, str, Any]] = [
    ("GET", "/api/users/{user_id}", None),
    ("HEAD", "/api/users/{user_id}", None),
    ("GET", "/api/{user_id}/tasks", None),
    ("HEAD", "/api/{user_id}/tasks", None),
    ("POST", "/api/{user_id}/tasks", {"title": "Buy milk"}),
]
