"""Timestamps in JSON: RFC 3339, in UTC, always with six digits of microseconds."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

ReadOnlyTimestamp = Annotated[
    datetime,
    Meta(tz=True, description="In UTC, with microseconds", extra_json_schema={"readOnly": True}),
]


class _WholeSecond(datetime):
    """A datetime that msgspec does not know, so that ``encode`` formats it by ``_format``."""


def with_microseconds(timestamp: datetime) -> datetime:
    """The same timestamp, which ``encode`` writes with six digits even if its microseconds are zero."""
    return timestamp if timestamp.microsecond else _WholeSecond.combine(timestamp.date(), timestamp.timetz())


def _format(timestamp: datetime) -> str:
    return timestamp.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


encode = msgspec.json.Encoder(enc_hook=_format).encode
