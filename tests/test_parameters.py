"""The query of a request: wrong, repeated and unknown parameters are refused and named."""

import re
from typing import Any
from uuid import uuid4

import pytest

from .api import OPERATIONS, USER_OPERATIONS, User, assert_problem

WRONG = {
    "limit": ["", "0", "1001", "-1", "1.0", "1e2", "+1", "01", " 1", "\u0661", "x", "9" * 5000, "true"],
    "after": ["", "x", "{id}%0A", "urn:uuid:{id}", "%7B{id}%7D", "{hex}", "{id} ", "%00"],
    "completed": ["", "1", "0", "True", "TRUE", "yes", "null", "true%0A"],
    "q": ["", "x" * 201, "%00", "a%00b", "%FF", "%C3", "%ED%A0%80"],
    "updated_since": [
        "",
        "now",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-02-30T00:00:00Z",
        "0",
        "infinity",
    ],
    "sort": ["", "id", "+created_at", "created_at,id", "-CREATED_AT", "created_at;drop table tasks"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
async def test_a_wrong_parameter_is_named(ada: User, name: str, value: str) -> None:
    """Nothing is guessed: 422 says which parameter, and what it takes."""
    task_id = uuid4()
    value = value.replace("{id}", str(task_id)).replace("{hex}", task_id.hex)
    response = await ada.client.get(f"{ada.tasks}?{name}={value}")
    problem = assert_problem(response, 422, "invalid-request")
    assert [name] == [fault["parameter"] for fault in problem["errors"]]
    assert problem["errors"][0]["detail"].startswith("Must be ")


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("colour=red", ["colour"]),
        ("Limit=1", ["Limit"]),
        ("limit", ["limit"]),
        ("=1", [""]),
        ("limit=1&limit=1", ["limit"]),
        ("limit=0&limit=1", ["limit", "limit"]),
        ("limit=0&colour=red&after=x", ["limit", "colour", "after"]),
        ("%FF=1", ["?"]),
        ("limit=1;sort=created_at", ["limit"]),
    ],
)
async def test_unknown_and_repeated_parameters_are_named(ada: User, query: str, names: list[str]) -> None:
    """All faults are reported at once, and an unknown parameter with the names of the known ones."""
    problem = assert_problem(await ada.client.get(f"{ada.tasks}?{query}"), 422, "invalid-request")
    assert names == [fault["parameter"] for fault in problem["errors"]]
    known = "There is no parameter of this name. The parameters are "
    known += "limit, after, completed, q, updated_since, sort."
    unknown = {fault["parameter"] for fault in problem["errors"] if fault["detail"] == known}
    assert unknown == {name for name in names if name not in WRONG}


async def test_a_thousand_unknown_parameters_get_a_short_answer(ada: User) -> None:
    """What is answered stays in proportion."""
    response = await ada.client.get(f"{ada.tasks}?{'&'.join(f'x{n}=1' for n in range(1000))}")
    assert 32 == len(assert_problem(response, 422, "invalid-request")["errors"])


@pytest.mark.parametrize("query", ["", "&", "limit=%31", "q=%2B", "q=ü", "%6Cimit=1", "&limit=1&"])
async def test_what_is_fine_in_a_query(ada: User, query: str) -> None:
    """However it is escaped."""
    assert 200 == (await ada.client.get(f"{ada.tasks}?{query}")).status_code


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [*OPERATIONS, *USER_OPERATIONS, ("POST", "/api/users", {"email": "a@example.org"})],
)
async def test_only_lists_have_parameters(ada: User, method: str, path: str, body: Any) -> None:
    """Every operation refuses parameters that it does not have, and names each of them."""
    response = await ada.tries(method, path + "?colour=red&%FF", json=body)
    assert 422 == response.status_code
    if method != "HEAD":
        faults = assert_problem(response, 422, "invalid-request")["errors"]
        assert ["colour", "?"] == [fault["parameter"] for fault in faults]
        detail = r"There is no parameter of this name\.( The parameters are limit, .+\.)?"
        assert all(re.fullmatch(detail, fault["detail"]) for fault in faults)
