"""Users: what they are and the two operations that exist over HTTP."""

from typing import Annotated

import msgspec
from litestar import Controller, get, post
from litestar.params import JSONBody
from msgspec import Meta

from todo_api.http.answers import Answer
from todo_api.http.openapi import MadeAt, MadeId, document
from todo_api.http.problems import EMAIL_TAKEN, USER_NOT_FOUND, ProblemError
from todo_api.http.requests import PathId, StrictRequest, refuse_parameters
from todo_api.http.timestamps import encode, exact
from todo_api.queries import Statement

Email = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=320,
        pattern=r"^[^\s@\x00-\x1f\x7f-\x9f]+@[^\s@\x00-\x1f\x7f-\x9f]+$(?!\s)",
        description="3 to 320 characters, one @ amid them, no white space or control character",
        examples=["ada@example.org"],
    ),
]


class User(msgspec.Struct):
    """Somebody who has tasks."""

    id: MadeId
    email: Email
    created_at: MadeAt

    def __post_init__(self) -> None:
        self.created_at = exact(self.created_at)


class NewUser(msgspec.Struct, forbid_unknown_fields=True):
    """What it takes to add a user."""

    email: Email


ADD = Statement("users/add", User)
GET = Statement("users/get", User, repeatable=True)


class UserController(Controller):
    """Those who have tasks."""

    path = "/api/users"
    tags = ["Users"]
    before_request = staticmethod(refuse_parameters)

    @post(
        **document(
            "Add a user", 201, User, EMAIL_TAKEN, example={"email": "ada@example.org"}, headers=("Location",)
        )
    )
    async def add_user(self, data: JSONBody[NewUser], request: StrictRequest) -> Answer:
        """Add a user. The email is taken where another user has it, whatever its case."""
        user = await request.queries.fetch_one(ADD, email=data.email)
        assert user is not None
        return Answer(encode(user), status=201, location=f"/api/users/{user.id}")

    @get("/{user_id:str}", **document("Read a user", 200, User, USER_NOT_FOUND))
    async def get_user(self, user_id: PathId, request: StrictRequest) -> Answer:
        """Read one user."""
        user = await request.queries.fetch_one(GET, user_id=user_id)
        if user is None:
            raise ProblemError(USER_NOT_FOUND)
        return Answer(encode(user))
