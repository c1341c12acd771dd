"""The OpenAPI document: complete, true, and the same wherever it is asked for."""

import json
import re
from typing import Any

import httpx
import jsonschema_rs
import msgspec
import pytest
from click.testing import CliRunner
from litestar import Litestar

from todo_api.app import create_app
from todo_api.commands import cli
from todo_api.http import openapi
from todo_api.settings import Settings

from . import examples
from .api import talking_to
from .databases import NewDatabase
from .examples import operations
from .service import ROOT

SNAPSHOT = ROOT / "tests" / "openapi.json"

Json = dict[str, Any]


@pytest.fixture(scope="module")
def document(app: Litestar) -> Json:
    """The document."""
    return openapi.build(app)


def whole(document: Json, part: Any) -> Any:
    """A part of the document, with what its reference stands for."""
    while "$ref" in part:
        found = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def validator(document: Json, schema: Json) -> jsonschema_rs.Validator:
    """What checks a value by a schema of the document, formats included."""
    return jsonschema_rs.Draft202012Validator(
        schema | {"components": document["components"]}, validate_formats=True
    )


async def test_the_document_is_the_one_that_was_reviewed(document: Json) -> None:
    """A change of the document shows in review, as a change of the copy in the repository."""
    assert json.loads(SNAPSHOT.read_text()) == json.loads(msgspec.json.encode(document)), "Run: make openapi"


async def test_every_source_has_the_same_document(document: Json, client: httpx.AsyncClient) -> None:
    """The command line prints what is served, as JSON and as YAML."""
    served = await client.get("/schema/openapi.json")
    assert "application/json" == served.headers["content-type"]
    assert document == served.json()
    as_yaml = await client.get("/schema/openapi.yaml")
    assert "application/yaml" == as_yaml.headers["content-type"]
    assert document == msgspec.yaml.decode(as_yaml.content)
    assert document == json.loads(CliRunner().invoke(cli, ["openapi"]).stdout)


def test_every_route_is_documented(app: Litestar, document: Json) -> None:
    """Only the documentation itself is left out."""
    paths = {route.path_format for route in app.routes}
    hidden = {path for path in paths if path.startswith(("/schema", "/problems"))} | {"/", "/favicon.ico"}
    assert paths - hidden == document["paths"].keys()


def test_every_operation_is_described(document: Json) -> None:
    """Each has a name of its own, a tag that is explained, and a sentence on all that it takes."""
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    names = set()
    for path, method, operation in operations(document):
        assert operation["summary"] and operation["description"], (path, method)
        assert operation["operationId"] not in names
        names.add(operation["operationId"])
        assert set(operation["tags"]) <= tags
        for parameter in operation.get("parameters", []):
            assert whole(document, parameter)["description"], (path, method, parameter)


def test_every_error_is_a_problem(document: Json) -> None:
    """Each error response has the one format, and the header with the request's id."""
    for path, method, operation in operations(document):
        for status, response in operation["responses"].items():
            assert "X-Request-Id" in response["headers"], (path, method, status)
            if status == "default" or int(status) >= 400:
                assert ["application/problem+json"] == list(response["content"]), (path, method, status)


async def test_the_examples_are_what_the_service_answers(new_database: NewDatabase) -> None:
    """Each operation answers its example as shown, and has each of the problems that it names.

    Liveness runs nothing that could fail, so its 500 has no example.
    """
    app = create_app(Settings(database_url=new_database()))
    async with talking_to(app) as client:
        captured = await examples.capture(app, client)
    assert json.loads(examples.FILE.read_text()) == captured, "Run: make openapi"
    for _, _, operation in operations(openapi.build(app)):
        named = set(examples.problems_of(operation))
        if operation["operationId"] == "checkLiveness":
            named.remove("internal-error")
        assert named == {name for name in captured[operation["operationId"]] if not name.isdigit()}


def test_generators_get_plain_types(document: Json) -> None:
    """Only requests have limits, a field has no default, and a model's name does not start with New."""
    for name, schema in document["components"]["schemas"].items():
        assert not name.startswith("New")
        text = json.dumps(schema)
        assert '"default"' not in text and '"readOnly"' not in text
        if name in ("Task", "User", "Health", "ProblemDetails", "Fault"):
            assert not re.search('"(pattern|m[a-z]+(Length|imum|Items))"', text), name
    for parameter in document["components"]["parameters"].values():
        assert "string" == parameter["schema"]["type"]


def test_every_example_is_valid(document: Json) -> None:
    """What the document shows as an example keeps to the schema beside it."""
    checked = 0
    for _, _, operation in operations(document):
        for body in [operation.get("requestBody", {}), *operation["responses"].values()]:
            for content in body.get("content", {}).values():
                shown = [example["value"] for example in content.get("examples", {}).values()]
                for example in [*shown, *([content["example"]] if "example" in content else [])]:
                    validator(document, content["schema"]).validate(example)
                    checked += 1
    assert checked > 80


def test_links_lead_to_operations(document: Json) -> None:
    """A link names an operation and fills all of its path."""
    paths = {operation["operationId"]: path for path, _, operation in operations(document)}
    by_name = {operation["operationId"]: operation for _, _, operation in operations(document)}
    created = by_name["createTask"]["responses"]["201"]["links"]
    assert {"getTask", "replaceTask", "updateTask", "deleteTask", "toggleTask"} == created.keys()
    assert {"getUser", "listTasks", "createTask"} == by_name["createUser"]["responses"]["201"]["links"].keys()
    for name, link in created.items():
        assert set(re.findall(r"{(\w+)}", paths[name])) == link["parameters"].keys()
