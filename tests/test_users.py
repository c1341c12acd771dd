"""Adding and reading users, and what their table refuses."""

from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from psycopg import errors

from .api import User, assert_problem


def fresh(domain: str = "example.org") -> str:
    """An address that nobody has yet."""
    return f"{uuid4().hex}@{domain}"


async def test_adding_a_user(client: httpx.AsyncClient) -> None:
    """A user is answered whole, with the address where they are found again."""
    email = fresh("Example.org")
    response = await client.post("/api/users", json={"email": email})
    assert 201 == response.status_code
    user = response.json()
    assert ["id", "email", "created_at"] == list(user)
    assert (email, 4) == (user["email"], UUID(user["id"]).version)
    assert f"/api/users/{user['id']}" == response.headers["location"]
    found = await client.get(response.headers["location"])
    assert (200, user) == (found.status_code, found.json())


@pytest.mark.parametrize("change", [str, str.upper, str.title])
async def test_an_email_is_taken_whatever_its_case(client: httpx.AsyncClient, change: type[str]) -> None:
    """Two users cannot have one address, and nothing tells whose it is."""
    email = "ä" + fresh()
    assert 201 == (await client.post("/api/users", json={"email": email})).status_code
    problem = assert_problem(
        await client.post("/api/users", json={"email": change(email)}), 409, "email-taken"
    )
    assert email not in str(problem)


GOOD = ["a@b", "a" * 318 + "@b", "ä@münchen.example", "a+b.c@d", "😀@😀"]
BAD = ["", "@", "a@", "@b", "ab", "a@b@c", "a b@c", " a@b", "a@b ", "a@b\n", "a\t@b", "a\u2003@b"]
BAD += ["a\x7f@b", "a\x85@b", "a\x1f@b", "a" * 319 + "@b"]


@pytest.mark.parametrize("email", GOOD)
async def test_what_is_an_email(client: httpx.AsyncClient, database: psycopg.Connection, email: str) -> None:
    """One @ with something on both sides, 3 to 320 characters; kept as it was typed."""
    database.execute("delete from users where email = %s", [email])
    response = await client.post("/api/users", json={"email": email})
    assert (201, email) == (response.status_code, response.json().get("email"))


# To PostgreSQL a no-break space is white space in some locales only, and U+0000 never comes that far.
@pytest.mark.parametrize("email", [*BAD, "a\u00a0@b", "a\0@b"])
async def test_what_is_no_email(client: httpx.AsyncClient, email: str) -> None:
    """Anything else is a fault of the field."""
    problem = assert_problem(await client.post("/api/users", json={"email": email}), 422, "invalid-request")
    assert ["/email"] == [fault["pointer"] for fault in problem["errors"]]


@pytest.mark.parametrize("email", BAD)
def test_the_table_refuses_the_same(database: psycopg.Connection, email: str) -> None:
    """A row typed by hand obeys the limits of the API."""
    with pytest.raises(errors.CheckViolation) as caught:
        database.execute("insert into users (email) values (%s)", [email])
    assert caught.value.diag.constraint_name in ("users_email_form", "users_email_length")


def test_the_table_refuses_a_taken_email(database: psycopg.Connection) -> None:
    """By the name that the API looks for."""
    email = fresh()
    database.execute("insert into users (email) values (%s)", [email])
    with pytest.raises(errors.UniqueViolation) as caught:
        database.execute("insert into users (email) values (upper(%s))", [email])
    assert "users_email_key" == caught.value.diag.constraint_name


@pytest.mark.parametrize("name", ["id", "created_at", "name"])
async def test_only_an_email_is_taken(client: httpx.AsyncClient, name: str) -> None:
    """What the database makes cannot be sent, and what is not known is named."""
    response = await client.post("/api/users", json={"email": fresh(), name: "x"})
    assert [f"/{name}"] == [
        fault["pointer"] for fault in assert_problem(response, 422, "invalid-request")["errors"]
    ]


async def test_users_are_not_listed_or_deleted_over_http(ada: User) -> None:
    """Without authentication those two would hand everybody everything."""
    assert "POST, OPTIONS" == (await ada.client.get("/api/users")).headers["allow"]
    response = await ada.client.delete(f"/api/users/{ada.id}")
    assert_problem(response, 405, "method-not-allowed")
    assert "GET, HEAD, OPTIONS" == response.headers["allow"]


async def test_a_whole_second_has_microseconds_too(ada: User, database: psycopg.Connection) -> None:
    """Six digits always, also of a row that was typed by hand."""
    database.execute("update users set created_at = '2026-01-01 01:00:00+01' where id = %s", [ada.id])
    user = (await ada.client.get(f"/api/users/{ada.id}")).json()
    assert "2026-01-01T00:00:00.000000Z" == user["created_at"]
