"""How long people are at a piece, without their pauses; and a draft that says nothing is none any more."""

from django.db import migrations, models


def empty_drafts(apps, schema_editor):
    """What was opened and left empty is not under way."""
    assignments = apps.get_model("annotate", "Assignment").objects.filter(draft__isnull=False)
    for assignment in assignments.filter(status__in=["held", "expired"]).only("draft").iterator():
        if not any(value.strip() if isinstance(value, str) else value for value in assignment.draft.values()):
            assignment.draft = None
            assignment.save(update_fields=["draft"])


class Migration(migrations.Migration):
    dependencies = [("annotate", "0003_audit_is_never_changed")]

    operations = [
        migrations.AddField("assignment", "active_time", models.DurationField(blank=True, null=True)),
        migrations.RunPython(empty_drafts, migrations.RunPython.noop, elidable=True),
    ]
