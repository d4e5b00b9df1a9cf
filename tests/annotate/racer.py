"""People who claim and submit as fast as they can; started many at a time by test_race.py.

As a program it plays one person in an own process: `python -m tests.annotate.racer MEMBER_ID`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from annotate.models import Member


def race(member: Member) -> int:
    """Answer prompts until there is nothing left; returns how many."""
    from annotate.models import Kind
    from annotate.services import demonstrations, work

    submitted = 0
    while assignment := work.claim(member.project, annotator=member, kind=Kind.DEMONSTRATION).assignment:
        submission_id = uuid4()
        # Every tenth answer is sent twice, as a browser does whose first answer got lost.
        for _ in range(2 if submitted % 10 == 0 else 1):
            demonstrations.submit(assignment, submission_id=submission_id, text=f"Answer {submitted}")
        submitted += 1
    return submitted


if __name__ == "__main__":
    import django

    django.setup()
    from annotate.models import Member

    print(race(Member.objects.select_related("project").get(pk=sys.argv[1])))
