"""A person who hands in an answer through a web process of their own."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from annotate.models import Demonstration, Project
from tests.factories import make_member, make_token
from tests.training import machine
from tests.web_server import Server


class Site(Server):
    """A web process with its own ways to the database and the broker."""

    def __init__(self, **ways: str) -> None:
        self.ways = ways
        super().__init__()

    def _environment(self) -> dict[str, str]:
        return super()._environment() | self.ways


@contextmanager
def served(**ways: str) -> Iterator[Site]:
    site = Site(**ways)
    try:
        yield site
    finally:
        site.kill()


class Writer:
    """A person with one answer to hand in."""

    def __init__(self, project: Project) -> None:
        machine.make_prompts(project, 1)
        self.project, self.member = project, make_member(project)
        self.token = make_token(self.member.user)
        self.answer = {"submission_id": str(uuid4()), "text": f"Answer {uuid4()}"}

    def claim_at(self, site: Server) -> None:
        """Take a prompt to answer."""
        self.site = site
        status, claim = self._post(f"projects/{self.project.slug}/claim/", {"kind": "demonstration"})
        assert status == 200, claim
        self.address = f"assignments/{claim['assignment']['id']}/demonstration/"

    def hand_in(self) -> int:
        """The status of the reply; 0 for none."""
        return self._post(self.address, self.answer)[0]

    @property
    def stored(self) -> list[str]:
        return list(Demonstration.objects.filter(annotator=self.member).values_list("text", flat=True))

    def _post(self, path: str, body: dict[str, str]) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.site.url}/api/v1/{path}", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError as error:
            return 0, error
