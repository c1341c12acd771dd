"""Writes timestamps: in JSON as RFC 3339 with microseconds, in `Date` as RFC 9110 says."""

from datetime import datetime
from email.utils import formatdate
from functools import lru_cache
from time import time
from typing import Annotated

import msgspec
from msgspec import Meta

Timestamp = Annotated[datetime, Meta(tz=True, description="In UTC, with microseconds")]


class _WholeSecond(datetime):
    """A datetime that msgspec cannot encode by itself, so that ``encode`` calls ``_format``."""


def with_microseconds(timestamp: datetime) -> datetime:
    """The same timestamp, which ``encode`` writes with six digits even if its microseconds are zero."""
    return timestamp if timestamp.microsecond else _WholeSecond.combine(timestamp.date(), timestamp.timetz())


def _format(timestamp: datetime) -> str:
    return timestamp.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


encode = msgspec.json.Encoder(enc_hook=_format).encode


def http_date() -> bytes:
    """The current time as the value of `Date` (RFC 9110, section 5.6.7)."""
    return _http_date(int(time()))


@lru_cache(maxsize=1)
def _http_date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
