"""What tests share: a real PostgreSQL, the application on it, and its users."""

import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
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

from .api import User, make_user, talking_to
from .databases import Databases, NewDatabase, as_login, databases, post_apply
from .engines import IN_A_HURRY, copy_data, postgresql, templates
from .outage import Server
from .service import ROOT, serving


def pytest_configure() -> None:
    """Have every process that the tests start import from this tree, and no HTTP client read certificates."""
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ["SSL_CERT_DIR"] = str(ROOT / "tests")  # each client would read a hundred, in 30 ms
    os.environ.pop("SSL_CERT_FILE", None)


def pytest_unconfigure() -> None:
    """Remove what was made to be copied."""
    templates.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the modules first that need a directory, since they take longest: so all processes end together.

    With TEST_POSTGRES, leave out the tests that do not use it: they would do the same again.
    """
    long = {item.path for item in items if "tmp_path" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path not in long)
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
def postgres(request: pytest.FixtureRequest) -> Iterator[str]:
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
        with TemporaryDirectory(ignore_cleanup_errors=True) as home:
            copy_data(request.getfixturevalue("made_data"), Path(home))
            with embedded.running(Path(home), settings=IN_A_HURRY) as url:
                yield url


@pytest.fixture(scope="session")
def made_data() -> Iterator[Path]:
    """A directory with the data of an embedded PostgreSQL, to be copied: initdb takes ten times as long."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as home:
        with embedded.running(Path(home)):
            pass
        yield Path(home)


@pytest.fixture
def data_dir(tmp_path: Path, made_data: Path) -> Path:
    """A DATA_DIR with data, which is that of ``serving`` unless it is given another."""
    copy_data(made_data, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose name leaves room for a socket's."""
    with TemporaryDirectory(prefix="todo-test-", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def own_server(tmp_path: Path, short_path: Path, made_data: Path) -> Iterator[Server]:
    """A PostgreSQL of the test's own, to be killed."""
    copy_data(made_data, tmp_path / "own")
    server = Server(tmp_path / "own", short_path / "address")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def application_role(postgres: str) -> Iterator[str | None]:
    """The login of the service; None where that of TEST_DATABASE_URL may not make one."""
    name = f"todo_test_{uuid4().hex[:12]}"
    role = sql.Identifier(name)
    with psycopg.connect(postgres, autocommit=True) as connection:
        try:
            connection.execute(sql.SQL("create role {} login password {}").format(role, name))
        except psycopg.errors.InsufficientPrivilege:
            yield None
        else:
            yield name
            if "TEST_DATABASE_URL" in os.environ:
                connection.execute(sql.SQL("drop role {}").format(role))


@pytest.fixture(scope="session")
def empty_database(postgres: str, application_role: str | None) -> Iterator[NewDatabase]:
    """Makes databases without a schema. They go before the role, which may do things in them."""
    with databases(postgres, "template1") as make:
        yield make


@pytest.fixture
def own_database(empty_database: NewDatabase) -> str:
    """A database of the test's own without a schema, where nobody else's connections are."""
    return empty_database()


@pytest.fixture
def made(postgres: str) -> Iterator[Databases]:
    """Makes databases with these options, such as another locale, dropped at the end."""
    names = []
    with psycopg.connect(postgres, autocommit=True) as connection:

        def make(options: str = "") -> str:
            names.append(f"todo_test_{uuid4().hex[:12]}")
            connection.execute(f"create database {names[-1]} template template0 {options}".encode())
            return re.sub(r"/[^/?]*(\?|$)", rf"/{names[-1]}\1", postgres, count=1)

        yield make
        for name in names:
            connection.execute(f"drop database if exists {name} with (force)".encode())


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
    with databases(postgres, urlsplit(template).path.lstrip("/")) as make:
        yield lambda: as_login(make(), application_role) if application_role else make()


@pytest.fixture(scope="session")
def as_owner(postgres: str) -> Callable[[str], str]:
    """Turns the URL of a database into that of its owner."""
    return lambda url: urlunsplit(urlsplit(url)._replace(netloc=urlsplit(postgres).netloc))


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


@pytest.fixture
async def ada(client: httpx.AsyncClient) -> User:
    """A user."""
    return await make_user(client)


@pytest.fixture
async def bob(client: httpx.AsyncClient) -> User:
    """Another user."""
    return await make_user(client)
