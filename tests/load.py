"""Load on a service, whose writers know what they were promised."""

import json
import threading
import time
from collections import Counter
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psycopg

from .waiting import wait_until

WRITERS = 6


class Load:
    """Writers on connections that they keep, each of whom notes what becomes of each task.

    Those who ``insist`` send each with a key, again and again until it is acknowledged.
    """

    def __init__(self, url: str, *, insist: bool = False) -> None:
        user = httpx.post(f"{url}/api/users", json={"email": f"{uuid4().hex}@example.org"})
        self.url = url
        self.path = f"/api/{user.json()['id']}/tasks"
        self.insist = insist
        self.sent: set[str] = set()
        self.acknowledged: Counter[str] = Counter()
        self.answers: Counter[int] = Counter()
        self.failures: Counter[str] = Counter()
        self.longest = 0.0
        self.over = threading.Event()
        self._threads = [threading.Thread(target=self._write) for _ in range(WRITERS)]

    def _write(self) -> None:
        title = ""
        while not self.over.is_set():
            with closing(HTTPConnection(urlsplit(self.url).netloc, timeout=60)) as connection:
                try:
                    while not self.over.is_set():
                        if not (self.insist and title):
                            title = uuid4().hex
                            self.sent.add(title)
                        if self._sends(connection, title):
                            title = ""
                except (OSError, HTTPException) as error:
                    self.failures[type(error).__name__] += 1
                    time.sleep(0.02)

    def _sends(self, connection: HTTPConnection, title: str) -> bool:
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": title} if self.insist else {})
        began = time.monotonic()
        connection.request("POST", self.path, json.dumps({"title": title}), headers)
        response = connection.getresponse()
        answer = json.load(response)
        self.longest = max(self.longest, time.monotonic() - began)
        self.answers[response.status] += 1
        if response.status == 201:
            self.acknowledged[answer["title"]] += 1
            time.sleep(0.02)  # or the writers alone would keep the machine busy
            return True
        assert "application/problem+json" == response.headers["content-type"]
        assert 503 != response.status or response.headers["retry-after"]
        time.sleep(0.02)
        return False

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self) -> None:
        """Wait until some more tasks are acknowledged."""
        enough = len(self.acknowledged) + 10 * WRITERS
        wait_until(lambda: len(self.acknowledged) >= enough)

    def assert_nothing_lost(self, database: str) -> None:
        """What was acknowledged is stored, once; what failed is stored at most once."""
        with psycopg.connect(database) as connection:
            stored = Counter(title for (title,) in connection.execute("select title from tasks"))
        assert set() == self.acknowledged.keys() - stored.keys()
        assert stored.keys() <= self.sent
        assert {1} == set(stored.values()) == set(self.acknowledged.values())
        print(
            f"answers {dict(self.answers)}, failures {dict(self.failures)}, longest {self.longest:.2f} s, "
            f"acknowledged {len(self.acknowledged)}, stored {len(stored)}"
        )
