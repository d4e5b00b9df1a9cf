"""Texts are the same only where they are equal: the folded hash moves to a column of its own, the exact one is counted.

No two rows can clash on the way. An exact hash equals the old, folded hash of another row only where that row's text is
this one's, folded; then both would have had one folded hash, and the database allowed that once.
"""

import hashlib
import json

from django.db import migrations, models
from django.db.migrations.exceptions import IrreversibleError
from django.db.models import Count, F

BATCH = 1000


def count_exact_hashes(apps, schema_editor):
    Prompt = apps.get_model("annotate", "Prompt")
    last = 0
    while batch := list(Prompt.objects.filter(pk__gt=last).order_by("pk").only("messages", "text_hash")[:BATCH]):
        for prompt in batch:
            prompt.folded_hash, prompt.text_hash = prompt.text_hash, exact_hash(prompt.messages)
        Prompt.objects.bulk_update(batch, ["folded_hash", "text_hash"], batch_size=200)
        last = batch[-1].pk


def exact_hash(messages):
    turns = [[message["role"], message["content"]] for message in messages]
    return hashlib.sha256(json.dumps(turns, ensure_ascii=False).encode()).hexdigest()


def restore_folded_hashes(apps, schema_editor):
    Prompt = apps.get_model("annotate", "Prompt")
    if Prompt.objects.values("project", "folded_hash").annotate(n=Count("pk")).filter(n__gt=1).exists():
        raise IrreversibleError("Some prompts differ in case or spacing only: the older version cannot tell them apart.")
    Prompt.objects.update(text_hash=F("folded_hash"))


class Migration(migrations.Migration):
    dependencies = [("annotate", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="prompt",
            name="folded_hash",
            field=models.CharField(max_length=64, default=""),
            preserve_default=False,
        ),
        migrations.AddIndex(
            model_name="prompt",
            index=models.Index(fields=["project", "folded_hash", "id"], name="prompt_by_folded_text"),
        ),
        migrations.RunPython(count_exact_hashes, restore_folded_hashes),
    ]
