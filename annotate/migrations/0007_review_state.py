"""Where the newest label of each piece stands with reviewers, and indexes of when pieces ended and of verdicts."""

from django.db import migrations, models
from django.db.models import Exists, OuterRef, Q, Subquery

STATES = [
    ("", "no label"),
    ("waiting", "waits for review"),
    ("corrected", "returned and corrected: waits for review"),
    ("accepted", "accepted"),
    ("returned", "returned"),
]


def read_reviews(apps, schema_editor):
    """What the reviews say of the newest label of each piece that was handed in."""
    pieces = apps.get_model("annotate", "Assignment").objects.filter(status="submitted", annotator__erased_at=None)
    for kind in ("demonstration", "ranking"):
        reviews = apps.get_model("annotate", "Review").objects.filter(**{f"{kind}__assignment": OuterRef("pk")})
        newest = reviews.filter(**{f"{kind}__superseded_by": None}).order_by("-pk").values("verdict")[:1]
        mine = pieces.filter(kind=kind)
        mine.update(review_state="waiting")
        mine.filter(Exists(reviews.filter(verdict="return"))).update(review_state="corrected")
        for verdict, state in (("accept", "accepted"), ("return", "returned")):
            mine.annotate(verdict=Subquery(newest)).filter(verdict=verdict).update(review_state=state)


class Migration(migrations.Migration):
    dependencies = [("annotate", "0006_welcome")]

    operations = [
        migrations.AddField(
            "assignment", "review_state", models.CharField(blank=True, choices=STATES, default="", max_length=9)
        ),
        migrations.AddConstraint(
            "assignment",
            models.CheckConstraint(
                condition=Q(review_state__in=["", "waiting", "corrected", "accepted", "returned"]),
                name="assignment_review_state_known",
            ),
        ),
        migrations.AddIndex(
            "assignment",
            models.Index(fields=["project", "review_state", "annotator", "finished_at"], name="assignment_to_review"),
        ),
        migrations.AddIndex(
            "assignment",
            models.Index(fields=["project", "finished_at", "status", "annotator"], name="assignment_by_end"),
        ),
        migrations.AddIndex("review", models.Index(fields=["verdict"], name="review_by_verdict")),
        migrations.RunPython(read_reviews, migrations.RunPython.noop, elidable=True),
    ]
