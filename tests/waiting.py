"""Waiting for what is about to happen: the only place where tests poll."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

LIMIT = 60.0  # seconds, in which it happens on the busiest machine
PAUSE = 0.02

# Seconds until a service has recovered, of which a machine of one's own takes one.
HEALING = 5.0


def wait_until(happened: Callable[[], T | None], seconds: float = LIMIT) -> T:
    """The first answer that is true; without one in time the test fails."""
    deadline = time.monotonic() + seconds
    while not (answer := happened()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(PAUSE)
    return answer


async def eventually(happened: Callable[[], Awaitable[T | None]], seconds: float = LIMIT) -> T:
    """The same, while the application in this process goes on."""
    deadline = time.monotonic() + seconds
    while not (answer := await happened()):
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(PAUSE)
    return answer
