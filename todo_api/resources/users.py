"""Users, and the two operations on them. Users are listed and deleted on the command line."""

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Controller, get, post
from litestar.params import JSONBody

from todo_api.http.answers import Answer
from todo_api.http.headers import LOCATION, refuse_idempotency_key
from todo_api.http.parameters import PathId, refuse_parameters
from todo_api.http.patterns import SOLID_BUT_AT, matching
from todo_api.http.timestamps import Timestamp, encode, with_microseconds
from todo_api.queries import Statement
from todo_api.resources.problems import SHARED, EmailTaken, UserNotFound
from todo_api.resources.request import ResourceRequest

Email = Annotated[
    str,
    matching(
        f"^[{SOLID_BUT_AT}]+@[{SOLID_BUT_AT}]+$",
        min_length=3,
        max_length=320,
        description="{min_length} to {max_length} characters with one @ inside, no white space or control "
        "characters",
    ),
]


class User(msgspec.Struct):
    """A user."""

    id: UUID
    email: str
    created_at: Timestamp

    def __post_init__(self) -> None:
        self.created_at = with_microseconds(self.created_at)


class UserCreation(msgspec.Struct, forbid_unknown_fields=True):
    """The fields of a new user."""

    email: Email


ADD = Statement("users/add", User)
GET = Statement("users/get", User, repeatable=True)


class UserController(Controller):
    """The users who own tasks."""

    path = "/api/users"
    tags = ["Users"]
    before_request = staticmethod(refuse_parameters)
    opt = {"raises": SHARED}

    @post(
        summary="Create a user",
        raises=[EmailTaken],
        example={"email": "ada@example.org"},
        response_headers=[LOCATION],
    )
    async def create_user(
        self, data: JSONBody[UserCreation], request: ResourceRequest
    ) -> Annotated[Answer, User]:
        """Create a user. Each email can be used once, whatever its case. There is no `Idempotency-Key`."""
        refuse_idempotency_key(
            request.fields, "Creating a user takes no key. Repeat it without one: the second user gets a 409."
        )
        user = await request.queries.fetch_one(ADD, email=data.email)
        assert user is not None  # an insert returns its row or raises
        return Answer(encode(user), status=201, location=f"{request.root_path}/api/users/{user.id}")

    @get("/{user_id:str}", summary="Read a user", raises=[UserNotFound])
    async def get_user(self, user_id: PathId, request: ResourceRequest) -> Annotated[Answer, User]:
        """Read one user."""
        user = await request.queries.fetch_one(GET, user_id=user_id)
        if user is None:
            raise UserNotFound
        return Answer(encode(user))
