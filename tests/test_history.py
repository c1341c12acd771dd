"""What clients are told while everything breaks is true, and the checker that says so can say otherwise."""

import shutil
from pathlib import Path

import pytest

from .history import SABOTAGES, Clients, Operation, Version, audited, faults, run, violations
from .outage import Server
from .service import ROOT
from .waiting import HEALING, wait_until

FIRST, SECOND, THIRD = Version(1, "a", False), Version(2, "b", False), Version(3, "b", True)
VERSIONS = [FIRST, SECOND, THIRD]
PUT = Operation("put", 1.5, 2.5, "done", SECOND, "b")
TOGGLE = Operation("toggle", 2.6, 3.5, "done", THIRD)
READ = Operation("read", 3.6, 3.7, "done", THIRD)


@pytest.mark.parametrize(
    "operations",
    [
        [PUT, TOGGLE, READ],
        [PUT._replace(kind="change", base=1.0), TOGGLE],
        [PUT._replace(outcome="unknown", seen=None), TOGGLE._replace(outcome="unknown", seen=None), READ],
        [PUT, TOGGLE, Operation("change", 3.6, 3.7, "refused", None, "c", 2.0)],
        [PUT, TOGGLE, Operation("put", 3.6, 3.7, "timed out", None, "c")],
        [PUT, TOGGLE, Operation("read", 2.9, 3.4, "done", SECOND)],
    ],
)
def test_a_sound_history_is_accepted(operations: list[Operation]) -> None:
    """No violation where there is none: unknown writes may have happened, and a read may be overtaken."""
    assert [] == list(violations(VERSIONS, operations))


@pytest.mark.parametrize(
    ("operations", "complaint"),
    [
        ([PUT, TOGGLE._replace(seen=SECOND)], "does not follow from"),
        ([PUT, TOGGLE, TOGGLE], "2 clients made"),
        ([PUT._replace(kind="change", base=0.5), TOGGLE], "was not based on the version that it named"),
        ([PUT._replace(outcome="timed out", seen=None), TOGGLE], "nobody can have written"),
        ([PUT, TOGGLE._replace(outcome="timed out", seen=None)], "nobody can have toggled"),
        ([PUT, TOGGLE, Operation("change", 3.6, 3.7, "refused", None, "c", 3.0)], "without a reason"),
        ([PUT, TOGGLE, READ._replace(seen=SECOND)], "is older than what was seen before"),
        ([PUT, TOGGLE, READ._replace(seen=Version(4, "d", True))], "saw what never was"),
        ([PUT._replace(title="c"), TOGGLE], "does not follow from"),
    ],
)
def test_a_violation_is_found(operations: list[Operation], complaint: str) -> None:
    """Lost toggles, ignored conditions, timed-out writes that appear, refusals without reason, steps back."""
    assert any(complaint in found for found in violations(VERSIONS, operations))


@pytest.mark.parametrize(
    ("file", "sound", "broken", "complaint"),
    [
        (
            "complete",
            "completed = coalesce(%(completed)s, not completed)",
            "completed = coalesce(%(completed)s, (select not completed from tasks as old"
            " where old.user_id = %(user_id)s and old.id = %(task_id)s))",
            "does not follow from",
        ),
        ("update", "updated_at = any(%(if_match)s)", "cardinality(%(if_match)s) = 1", "was not based on"),
    ],
    ids=["a toggle that is not atomic", "an If-Match that is ignored"],
)
def test_a_defect_is_found(
    file: str, sound: str, broken: str, complaint: str, tmp_path: Path, own_server: Server
) -> None:
    """The clients, too, are able to notice: a copy of the service with a wrong statement is found out."""
    copy = tmp_path / "copy"
    for part in ("todo_api", "sql", "migrations"):
        shutil.copytree(ROOT / part, copy / part)
    path = copy / f"sql/tasks/{file}.sql"
    assert sound in path.read_text()
    path.write_text(path.read_text().replace(sound, broken))
    variables = {"WORKERS": "1", "PYTHONPATH": str(copy)}
    with audited(own_server, tmp_path, **variables) as service, Clients(service.url) as clients:
        wait_until(lambda: any(complaint in each for each in faults(own_server, clients)))


def test_the_history_of_clients_is_sound(tmp_path: Path, own_server: Server) -> None:
    """Each sabotage once: the answers to clients are true, and the service heals within seconds."""
    found, healed, operations = run(tmp_path, own_server, SABOTAGES)
    print(f"{operations} operations; healed after {healed}")
    assert [] == found
    assert max(healed.values()) < HEALING
    assert operations > 500
