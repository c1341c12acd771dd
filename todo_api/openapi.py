"""What the OpenAPI document says of an operation, and the document as a whole."""

from collections.abc import Sequence
from typing import Any

from litestar.openapi import ResponseSpec

from todo_api import problems
from todo_api.problems import Kind, Problem

_ALWAYS = (problems.DEFECT, problems.UNAVAILABLE)
_WITH_BODY = (problems.MALFORMED, problems.TOO_LARGE, problems.UNSUPPORTED, problems.INVALID)


def document(
    summary: str, status: int, model: Any, *kinds: Kind, body: bool = False, **options: Any
) -> dict[str, Any]:
    """The keyword arguments of a route decorator that document its answers.

    ``kinds`` are the problems of this operation besides those that every one has, ``body``
    adds those of a request body; any further option is handed on.
    """
    specs: dict[int, ResponseSpec] = {}
    if model is not None:
        specs[status] = ResponseSpec(model, description=summary, generate_examples=False)
    by_status: dict[int, list[Kind]] = {}
    for kind in (*kinds, *(_WITH_BODY if body else ()), *_ALWAYS):
        by_status.setdefault(kind.status, []).append(kind)
    specs |= {code: _problem(found) for code, found in by_status.items()}
    return {"summary": summary, "status_code": status, "responses": specs, **options}


def _problem(kinds: Sequence[Kind]) -> ResponseSpec:
    description = "; ".join(f"{kind.title} (`{kind.type}`)" for kind in kinds)
    return ResponseSpec(
        Problem, description=description, media_type=problems.MEDIA_TYPE, generate_examples=False
    )
