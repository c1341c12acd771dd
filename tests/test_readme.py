"""The README's session, typed as it stands."""

import json
import re
import subprocess
from typing import Any

from .service import ROOT


def outline(value: Any) -> Any:
    """An answer without what differs from one run to the next."""
    if isinstance(value, list):
        return [outline(each) for each in value]
    changing = ("id", "user_id", "created_at", "updated_at", "instance", "request_id")
    return {name: "…" if name in changing else each for name, each in value.items()}


def test_the_session_answers_as_shown(server: str) -> None:
    """A shell that gets the block of commands prints what the block below it shows, each time."""
    readme = (ROOT / "README.md").read_text()
    [commands] = re.findall(r"```sh\n(.*?)```", readme, re.S)
    [shown] = re.findall(r"```json\n(.*?)```", readme, re.S)
    commands = commands.replace("http://127.0.0.1:8000", server)
    for _ in range(2):
        run = subprocess.run(["sh", "-c", commands], capture_output=True, text=True, timeout=60, check=True)
        printed = [outline(json.loads(line)) for line in run.stdout.splitlines()]
        assert [outline(json.loads(line)) for line in shown.splitlines()] == printed
