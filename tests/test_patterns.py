"""The published patterns mean to every reader what they mean to the service."""

import re
import sys
from typing import Any
from uuid import uuid4

import jsonschema_rs
import pytest
from litestar import Litestar

from todo_api.http import openapi

from .api import User, assert_problem

WHITE = re.findall(r"\s", "".join(map(chr, range(sys.maxunicode + 1))))
CONTROL = [chr(code) for code in [*range(0x20), *range(0x7F, 0xA0)]]
LIKE_WHITE = list(
    "\u00ad\u180e\u200b\u200d\u2027\u202a\u2060\u3164\ufeff\ufffd\ufffe\uffff\U000e0020\U0010ffff"
)
ODD = sorted({*WHITE, *CONTROL, *LIKE_WHITE, *"@Aé😀"})

FORMS = {
    "title": ["{0}", "{0}x", "x{0}", "x{0}x", "{0}x{0}", "x\n{0}", "x" * 199 + "{0}", "x" * 200 + "{0}"],
    "email": ["{0}a@b", "a{0}@b", "a@{0}b", "a@b{0}", "a@b{0}\n", "{0}@b.", "@{0}"],
}


@pytest.fixture(scope="module")
def schemas(app: Litestar) -> dict[str, Any]:
    """The schemas of the two fields, as they are published."""
    components = openapi.build(app)["components"]["schemas"]
    return {
        "title": components["TaskCreation"]["properties"]["title"],
        "email": components["UserCreation"]["properties"]["email"],
    }


def test_white_space_is_that_of_unicode() -> None:
    """The characters that the document calls white space are those that the service trims."""
    others = set("\x1c\x1d\x1e\x1f")
    assert {*"\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000", *map(chr, range(0x2000, 0x200B))} == (
        set(WHITE) - others
    )
    assert others < set(WHITE)


@pytest.mark.parametrize("character", ODD, ids=lambda character: f"U+{ord(character):04X}")
async def test_a_title(ada: User, schemas: dict[str, Any], character: str) -> None:
    """What the document allows is created, without the white space around it; anything else is a 422."""
    valid = jsonschema_rs.Draft202012Validator(schemas["title"])
    for form in FORMS["title"]:
        title = form.format(character)
        response = await ada.client.post(ada.tasks, json={"title": title})
        if valid.is_valid(title):
            assert (201, title.strip()) == (response.status_code, response.json()["title"]), ascii(title)
        else:
            faults = assert_problem(response, 422, "invalid-request")["errors"]
            assert ["/title"] == [fault["pointer"] for fault in faults], ascii(title)


@pytest.mark.parametrize("character", ODD, ids=lambda character: f"U+{ord(character):04X}")
async def test_an_email(ada: User, schemas: dict[str, Any], character: str) -> None:
    """What the document allows is created as it is; anything else is a 422, a newline at the end too."""
    valid = jsonschema_rs.Draft202012Validator(schemas["email"])
    for form in FORMS["email"]:
        email = (
            uuid4().hex + form.format(character) if not form.startswith("{0}@b") else form.format(character)
        )
        response = await ada.client.post("/api/users", json={"email": email})
        if valid.is_valid(email):
            assert (201, email) == (response.status_code, response.json()["email"]), ascii(email)
        else:
            assert_problem(response, 422, "invalid-request")


def test_patterns_are_in_the_common_subset(app: Litestar) -> None:
    r"""No look-around, no `\s`, no `\Z`: only what JSON Schema names, and \x with two digits."""
    for pattern in patterns(openapi.build(app)):
        assert not re.search(r"\(\?|\\[a-wyzA-Z]", re.sub(r"\\t", "", pattern)), pattern
        assert not re.search("[\n\r\u2028\u2029\x00-\x08\ufffe\uffff]", pattern), pattern


def patterns(part: Any) -> set[str]:
    """Every pattern in a part of the document."""
    if isinstance(part, dict):
        own = {part["pattern"]} if isinstance(part.get("pattern"), str) else set()
        return own.union(*map(patterns, part.values()))
    return set().union(*map(patterns, part)) if isinstance(part, list) else set()
