"""Audit rows stay as they were written: triggers refuse UPDATE, DELETE and TRUNCATE, on both databases.

The one exception takes a person out of a row: actor to NULL, subject to the empty string, is_erased to true.
On SQLite a later change of the table rebuilds it without its triggers: such a migration runs `protect` again.
"""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

KEPT = ("id", "project_id", "action", "detail", "created_at")
NO_CHANGE = "audit rows are never changed"
NO_DELETION = "audit rows are never deleted"


def erases(same):
    """SQL that is true where NEW only takes a person out of OLD; `same` is the database's null-safe equality."""
    kept = [f"NEW.{name} {same} OLD.{name}" for name in KEPT]
    return " AND ".join(
        [
            *kept,
            f"(NEW.actor_id {same} OLD.actor_id OR NEW.actor_id IS NULL)",
            f"(NEW.subject {same} OLD.subject OR NEW.subject = '')",
            "NEW.is_erased",
        ]
    )


SQLITE = [
    f"""CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON annotate_auditevent WHEN NOT ({erases("IS")})
        BEGIN SELECT RAISE(ABORT, '{NO_CHANGE}'); END""",
    f"""CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON annotate_auditevent
        BEGIN SELECT RAISE(ABORT, '{NO_DELETION}'); END""",
]
POSTGRESQL = [
    f"""CREATE FUNCTION audit_refuses() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' THEN
                RAISE EXCEPTION '{NO_CHANGE}' USING ERRCODE = 'integrity_constraint_violation';
            END IF;
            RAISE EXCEPTION '{NO_DELETION}' USING ERRCODE = 'integrity_constraint_violation';
        END $$""",
    f"""CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON annotate_auditevent FOR EACH ROW
        WHEN (NOT ({erases("IS NOT DISTINCT FROM")})) EXECUTE FUNCTION audit_refuses()""",
    """CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON annotate_auditevent FOR EACH ROW
        EXECUTE FUNCTION audit_refuses()""",
    """CREATE TRIGGER audit_is_never_truncated BEFORE TRUNCATE ON annotate_auditevent FOR EACH STATEMENT
        EXECUTE FUNCTION audit_refuses()""",
]


def protect(apps, schema_editor):
    is_sqlite = schema_editor.connection.vendor == "sqlite"
    for statement in SQLITE if is_sqlite else POSTGRESQL:
        schema_editor.execute(statement)


def release(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        for name in ("audit_is_never_changed", "audit_is_never_deleted"):
            schema_editor.execute(f"DROP TRIGGER {name}")
    else:
        schema_editor.execute("DROP FUNCTION audit_refuses() CASCADE")


class Migration(migrations.Migration):
    dependencies = [("annotate", "0002_exact_text_hash")]

    operations = [
        migrations.AddField("auditevent", "is_erased", models.BooleanField(default=False)),
        migrations.AlterField(
            "auditevent",
            "actor",
            models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.RunPython(protect, release),
    ]
