"""Runs have a place in the queue that admins can change; until then it is the order in which they were made."""

from django.db import migrations, models
from django.db.models import F


def keep_order(apps, schema_editor):
    apps.get_model("training", "Run").objects.update(position=F("pk"))


class Migration(migrations.Migration):
    dependencies = [("training", "0008_figures_of_ppo")]

    operations = [
        migrations.AddField("run", "position", models.BigIntegerField(default=0, editable=False), preserve_default=False),
        migrations.RunPython(keep_order, migrations.RunPython.noop, elidable=True),
        migrations.AddIndex("run", models.Index(fields=["position"], name="run_by_position")),
    ]
