"""Invited people are welcomed once; whoever is here already has been. And whether someone wants no password."""

from django.db import migrations, models
from django.db.models import F


def count_as_welcomed(apps, schema_editor):
    apps.get_model("annotate", "User").objects.update(welcomed_at=F("date_joined"))


class Migration(migrations.Migration):
    dependencies = [("annotate", "0005_removed_projects")]

    operations = [
        migrations.AddField("user", "welcomed_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("user", "declined_password_at", models.DateTimeField(blank=True, null=True)),
        migrations.RunPython(count_as_welcomed, migrations.RunPython.noop, elidable=True),
    ]
