"""What stands in a submitted assignment's draft belongs to a correction from now on: leftovers of before go."""

from django.db import migrations


def drop_leftovers(apps, schema_editor):
    submitted = apps.get_model("annotate", "Assignment").objects.filter(status="submitted")
    submitted.update(draft=None, draft_saved_at=None)


class Migration(migrations.Migration):
    dependencies = [("annotate", "0001_initial")]
    operations = [migrations.RunPython(drop_leftovers, migrations.RunPython.noop, elidable=True)]
