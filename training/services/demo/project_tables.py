"""Every table with rows of a project, found from the models' foreign keys: no list to keep when a model is added."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.apps import apps
from django.db import models

from annotate.models import AuditEvent, Project

KEPT = (Project, AuditEvent)  # what is never deleted: the record of who did what, and the name it is about


class Table(NamedTuple):
    """A model, and the lookup by which one of its rows belongs to a project."""

    model: type[models.Model]
    path: str  # as "slate__project"

    def rows(self, project: Project) -> models.QuerySet[Any]:
        return self.model._base_manager.filter(**{self.path: project})

    @property
    def depth(self) -> int:
        return self.path.count("__")


def tables() -> list[Table]:
    """The tables below a project; those whose rows lead to it through another table come first."""
    found = [Table(model, path) for model in _models() if model not in KEPT and (path := _path(model))]
    return sorted(found, key=lambda table: -table.depth)


def _models() -> list[type[models.Model]]:
    labels = ("annotate", "training")
    return [model for label in labels for model in apps.get_app_config(label).get_models(include_auto_created=True)]


def _path(model: type[models.Model]) -> str:
    """The shortest way from `model` to Project over keys that are always set, else its own key; "" if there is none."""
    ways: list[tuple[type[models.Model], list[str]]] = [(model, [])]
    seen = {model}
    for here, way in ways:  # grows while it is read: breadth first
        for field in here._meta.concrete_fields:
            target = field.related_model
            if not isinstance(field, models.ForeignKey) or field.null or not isinstance(target, type):
                continue
            if target is Project:
                return "__".join([*way, field.name])
            if target not in seen:
                seen.add(target)
                ways.append((target, [*way, field.name]))
    own = (field.name for field in model._meta.concrete_fields if field.related_model is Project)
    return next(own, "")
