"""The figures of PPO runs that were stored as their last step measured them become the mean of the last tenth of the
steps, as those of every other run are and as the pages call them.

Read from what the engine measured; a run whose directory is gone keeps what it has.
"""

import json
import math
from pathlib import Path
from statistics import fmean

from django.conf import settings
from django.db import migrations

GROUPS = ("rollout/", "policy/", "value/")
MEASURED_ONCE = "rollout/final_kl"


def average(apps, schema_editor):
    """Average them, and the same figures of the models that these runs made."""
    for run in apps.get_model("training", "Run").objects.filter(stage="ppo", status="succeeded").iterator():
        if means := _means(Path(settings.DATA_DIR, "runs", str(run.uuid), "attempts", str(run.fence), "metrics.jsonl")):
            run.metrics |= means
            run.save(update_fields=["metrics"])
            for model in apps.get_model("training", "ModelVersion").objects.filter(run=run):
                model.metrics |= means
                model.save(update_fields=["metrics"])


def _means(path):
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        last = max(row["step"] for row in rows)
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    values = {}
    for row in rows:
        if row["step"] > last - max(1, math.ceil(last / 10)):
            for name, value in row["metrics"].items():
                if name.startswith(GROUPS) and name != MEASURED_ONCE and math.isfinite(value):
                    values.setdefault(name, []).append(value)
    return {name: fmean(measured) for name, measured in values.items()}


class Migration(migrations.Migration):
    dependencies = [("training", "0007_question_slates")]
    operations = [migrations.RunPython(average, migrations.RunPython.noop, elidable=True)]
