"""Moments as JSON shows them: RFC 3339, in UTC, always with six digits of microseconds."""

from datetime import datetime

import msgspec


class _WholeSecond(datetime):
    """Shown by ``encode`` through ``_show``: msgspec knows datetime itself only."""


def exact(moment: datetime) -> datetime:
    """The same moment, as one that ``encode`` shows with its microseconds even where they are zero."""
    return moment if moment.microsecond else _WholeSecond.combine(moment.date(), moment.timetz())


def _show(moment: datetime) -> str:
    """The text of a moment in UTC."""
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


encode = msgspec.json.Encoder(enc_hook=_show).encode
