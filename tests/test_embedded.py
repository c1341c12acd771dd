"""The embedded PostgreSQL: how it is set up, and who gets at it; as root and as an ordinary user."""

import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from todo_api.postgres import keeper
from todo_api.postgres.embedded import running

from .postmaster import (
    ask,
    forks,
    mode,
    names_in,
    postmaster,
    root_only,
    socket_directory,
)
from .waiting import wait_until


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """One server for the tests that only look at it: its URL and its directory, with an odd name."""
    directory = tmp_path_factory.mktemp("served") / 'it\'s a "deep" one' / ("d" * 120) / ("ü" * 60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tempfile, "tempdir", str(tmp_path_factory.mktemp("d" * 120))
        )  # a socket's path is short
        with running(directory, settings={"work_mem": "7MB", "listen_addresses": "*"}) as url:
            yield url, directory


def test_it_is_durable(served: tuple[str, Path]) -> None:
    """A commit is on the disk when it returns, and a page that decays there is noticed."""
    url, _ = served
    durable = "fsync", "synchronous_commit", "full_page_writes", "data_checksums"
    assert ["on"] * 4 == [ask(url, f"show {name}") for name in durable]


def test_it_knows_every_script(served: tuple[str, Path]) -> None:
    """Text is UTF-8, and lower() knows more than ASCII."""
    url, _ = served
    assert "UTF8" == ask(url, "show server_encoding")
    assert "äöé жук" == ask(url, "select lower('ÄÖÉ ЖУК')")


def test_only_its_socket_listens(served: tuple[str, Path]) -> None:
    """There is no port to connect to, and the socket's directory is closed to other users."""
    url, directory = served
    assert "" == ask(url, "show listen_addresses")
    assert [".s.PGSQL.5432", ".s.PGSQL.5432.lock"] == names_in(socket_directory(url))
    assert 0o700 == mode(socket_directory(url))
    assert socket_directory(url).name.startswith("todo-api-")  # so that one knows whose it is
    assert (directory / "data").stat().st_uid == socket_directory(url).stat().st_uid


def test_its_files_are_closed(served: tuple[str, Path]) -> None:
    """Nobody else reads the data or the log."""
    _, directory = served
    assert 0o700 == mode(directory / "data")
    assert 0o600 == mode(directory / "log")


@forks
@root_only
@pytest.mark.parametrize("uid", [65534, 1])
def test_another_user_cannot_connect(served: tuple[str, Path], uid: int) -> None:
    """A stranger on the machine, be it nobody, gets no answer."""
    url, _ = served

    def connect_as_stranger() -> None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        with psycopg.connect(url):
            pass

    stranger = multiprocessing.get_context("fork").Process(target=connect_as_stranger)
    stranger.start()
    stranger.join()
    assert 1 == stranger.exitcode


@root_only
def test_root_runs_it_as_a_user_of_its_own(served: tuple[str, Path]) -> None:
    """No process of the server is root, nor a user or in a group that something else may be.

    The id never changes, or no release could use the data of the one before.
    """
    url, directory = served
    for pid in [
        postmaster(directory),
        *ask(url, "select array_agg(pid) from pg_stat_activity where datid is null"),
    ]:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        identity = [line.split()[1:] for line in status if line.startswith(("Uid", "Gid", "Groups"))]
        assert [["65525"] * 4] * 2 + [[]] == identity


def test_the_directory_may_be_deep_and_oddly_named(served: tuple[str, Path]) -> None:
    """A path far beyond what a socket's may be, with blanks and quotes in it, will do."""
    url, directory = served
    assert len(str(directory)) > 180
    assert (directory / "data").exists()
    assert 1 == ask(url, "select 1")


def test_settings_reach_the_server_but_open_nothing(served: tuple[str, Path]) -> None:
    """Any setting may be passed; where the server listens is not up to them."""
    url, _ = served
    assert "7MB" == ask(url, "show work_mem")
    assert "" == ask(url, "show listen_addresses")


def test_what_clients_cause_is_not_logged(served: tuple[str, Path]) -> None:
    """Neither the error nor the row, which is personal, and nobody fills the disk that way."""
    url, directory = served
    before = (directory / "log").stat().st_size
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create temporary table secret (email text unique check (email <> ''))")
        for email in ["ada@example.org", "ada@example.org", ""]:
            with suppress(psycopg.IntegrityError):
                connection.execute("insert into secret values (%s)", [email])
    assert before == (directory / "log").stat().st_size


def test_the_log_is_bounded(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is too long it begins anew, while the server writes on."""
    monkeypatch.setattr(keeper, "LOOK_INTERVAL", 0.05)
    monkeypatch.setattr(keeper, "LOG_LIMIT", 2_000)
    with running(data_dir) as url:
        for _ in range(50):
            with suppress(psycopg.OperationalError):
                psycopg.connect(url, dbname="no_such_database")
        wait_until(lambda: (data_dir / "log").stat().st_size <= 2_000)
