"""The OpenAPI document: complete, true, and the same wherever it is asked for."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import msgspec
import pytest
from click.testing import CliRunner
from litestar import Litestar

from todo_api.commands import cli
from todo_api.http import openapi

from .service import ROOT

SNAPSHOT = ROOT / "tests" / "openapi.json"
UPDATE = "todo-api openapi > tests/openapi.json"

Json = dict[str, Any]


@pytest.fixture(scope="module")
def document(app: Litestar) -> Json:
    """The document."""
    return openapi.build(app)


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Each path, method and operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


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
    assert json.loads(SNAPSHOT.read_text()) == json.loads(msgspec.json.encode(document)), f"Run: {UPDATE}"


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
    """Each error response has the one format, the header with the request's id, and examples."""
    for path, method, operation in operations(document):
        for status, answer in operation["responses"].items():
            response = whole(document, answer)
            assert "X-Request-Id" in response["headers"], (path, method, status)
            if status == "default" or int(status) >= 400:
                assert ["application/problem+json"] == list(response["content"]), (path, method, status)
                examples = response["content"]["application/problem+json"].get("examples", {}).values()
                statuses = {str(whole(document, example)["value"]["status"]) for example in examples}
                assert status == "default" or statuses <= {status}


def test_the_introduction_leads_to_every_problem(document: Json) -> None:
    """It links the page that lists them."""
    assert "(problems)" in document["info"]["description"]


def test_every_example_is_valid(document: Json) -> None:
    """What the document shows as an example keeps to the schema beside it."""
    checked = 0
    for _, _, operation in operations(document):
        bodies = [operation.get("requestBody", {"content": {}}), *operation["responses"].values()]
        for body in bodies:
            for content in whole(document, body).get("content", {}).values():
                examples = [
                    whole(document, example)["value"] for example in content.get("examples", {}).values()
                ]
                for example in [*examples, *([content["example"]] if "example" in content else [])]:
                    validator(document, content["schema"]).validate(example)
                    checked += 1
    for schema in document["components"]["schemas"].values():
        for field in schema["properties"].values():
            for option in field.get("anyOf", [field]):
                for example in option.get("examples", []):
                    validator(document, option).validate(example)
                    checked += 1
    assert checked > 50


def test_links_lead_to_operations(document: Json) -> None:
    """A link names an operation and fills all of its path."""
    by_name = {operation["operationId"]: operation for _, _, operation in operations(document)}
    created = by_name["createTask"]["responses"]["201"]["links"]
    assert {"getTask", "replaceTask", "updateTask", "deleteTask", "toggleTask"} == created.keys()
    assert {"getUser", "listTasks", "createTask"} == by_name["createUser"]["responses"]["201"]["links"].keys()
    for name, link in created.items():
        path = {
            whole(document, parameter)["name"]
            for parameter in by_name[name]["parameters"]
            if whole(document, parameter)["in"] == "path"
        }
        assert path == link["parameters"].keys()
