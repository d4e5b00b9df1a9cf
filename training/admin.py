"""The machine's rows for site admins, to look at: services write them, nobody edits them here."""

from __future__ import annotations

from django.contrib import admin

from annotate.admin import ReadOnlyAdmin
from training.models import (
    Adoption,
    Answer,
    Download,
    ModelVersion,
    Promotion,
    Question,
    Round,
    Run,
    Sample,
    Snapshot,
    TrainingSettings,
    Worker,
)


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    list_display = ("pk", "project", "round", "stage", "status", "attempt", "fence", "owner", "step", "total")
    list_filter = ("status", "stage")
    list_select_related = ("project", "round__project")


@admin.register(Round)
class RoundAdmin(ReadOnlyAdmin):
    list_display = ("project", "number", "status", "opened_by", "created_at", "finished_at")
    list_filter = ("status",)
    list_select_related = ("project", "opened_by")


@admin.register(ModelVersion)
class ModelVersionAdmin(ReadOnlyAdmin):
    list_display = (
        "project",
        "name",
        "parent",
        "reward",
        "reference",
        "watcher",
        "stands_on",
        "uses_withdrawn_labels",
        "created_at",
    )
    list_filter = ("kind", "uses_withdrawn_labels")
    list_select_related = ("project", "parent", "reward", "reference", "watcher", "stands_on")


@admin.register(Adoption)
class AdoptionAdmin(ReadOnlyAdmin):
    list_display = ("pk", "folder", "status", "context", "fence", "worker", "created_at", "finished_at")
    list_filter = ("status",)


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = ("name", "queue", "host", "device", "run", "heartbeat_at")
    list_select_related = ("run",)


@admin.register(Sample)
class SampleAdmin(ReadOnlyAdmin):
    list_display = ("completion_id", "model_version", "run", "n_tokens", "logprob", "reward", "is_repaired")
    list_select_related = ("model_version", "run")


for model in (Answer, Download, Promotion, Question, Snapshot, TrainingSettings):
    admin.site.register(model, ReadOnlyAdmin)
