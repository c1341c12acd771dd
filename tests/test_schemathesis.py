"""The service against its own OpenAPI document."""

import os
import subprocess
import sys
from pathlib import Path

from .databases import NewDatabase
from .service import ROOT, serving


def test_schemathesis_finds_nothing(tmp_path: Path, new_database: NewDatabase) -> None:
    """Every operation keeps to the document: by example, at its edges, at random, in sequence."""
    with serving(tmp_path, DATABASE_URL=new_database()) as service:
        run = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(ROOT / "schemathesis.toml")),
                *("run", "--checks", "all", "--no-color", f"{service.url}/schema/openapi.json"),
            ],
            cwd=tmp_path,
            env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.schemathesis_hooks", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    sys.stdout.write(run.stdout)  # the summary, for who runs pytest with -s or -rP
    assert 0 == run.returncode, run.stdout + run.stderr
