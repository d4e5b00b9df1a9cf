"""Model versions: directories of weights that were published, with everything that made them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from enum import StrEnum
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Project
from training.models.adoptions import Adoption
from training.models.runs import Run
from training.models.snapshots import Snapshot
from training.stages import kind_choices, policy_kinds

if TYPE_CHECKING:
    from annotate.models import User


class ModelVersionQuerySet(models.QuerySet["ModelVersion"]):
    def for_user(self, user: User) -> ModelVersionQuerySet:
        """Models of the projects that `user` administers."""
        return self.filter(project__in=Project.objects.administered_by(user))

    def policies(self) -> ModelVersionQuerySet:
        """What can answer prompts: all but reward models."""
        return self.filter(kind__in=policy_kinds())

    def bases(self) -> ModelVersionQuerySet:
        return self.filter(kind=ModelVersion.Kind.BASE)

    def with_weights(self) -> ModelVersionQuerySet:
        """Those whose weights have not been deleted."""
        return self.filter(weights_deleted_at=None)

    def newest_of_each_kind(self) -> ModelVersionQuerySet:
        """The newest model of each kind in each project."""
        is_newer = self.filter(project=OuterRef("project"), kind=OuterRef("kind"), number__gt=OuterRef("number"))
        return self.filter(~Exists(is_newer))

    def made_from(self, models: Iterable[int]) -> ModelVersionQuerySet:
        """Those that have one of `models` (ids) as parent, as reward model, as reference or as watcher."""
        roles = ("parent", "reward", "reference", "watcher")
        return self.filter(reduce(or_, (Q(**{f"{role}__in": models}) for role in roles)))

    def next_number(self, project: Project, kind: str) -> int:
        """The number of the model of `kind` that `project` gets next."""
        newest = self.filter(project=project, kind=kind).order_by("number").last()
        return newest.number + 1 if newest else 1


class ModelVersion(models.Model):
    """A directory of weights under DATA_DIR/models/<uuid>/, or the one that was adopted from an operator's folder."""

    class Kind(StrEnum):
        """What the built-in stages make; training/stages has the labels, and the kinds that other stages make."""

        BASE = "base"
        SFT = "sft"
        REWARD = "reward"
        WATCHER = "watcher"
        PPO = "ppo"

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    project = models.ForeignKey(Project, models.PROTECT, related_name="model_versions")
    kind = models.CharField(max_length=32, choices=kind_choices)
    number = models.PositiveIntegerField()  # counts per project and kind: sft-1, sft-2, …
    parent = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="children")
    # PPO has more: the reward model that scored it, the SFT it was kept near, and the watcher that said when to stop.
    reward = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="taught")
    reference = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="anchored")
    watcher = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="watched")
    # The whole model that an adapter was trained on; None for a whole one. The adapter cannot be read without it.
    stands_on = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="adapters")
    run = models.OneToOneField(Run, models.PROTECT, null=True, blank=True, related_name="model_version")
    attempt = models.PositiveIntegerField(default=0)  # the fence of the attempt that was published
    snapshot = models.ForeignKey(Snapshot, models.PROTECT, null=True, blank=True, related_name="model_versions")
    # Base models from BASE_MODELS_DIR: where the adopted one lies below DATA_DIR, or, before there were adoptions, the
    # operator's folder itself.
    external_path = models.CharField(max_length=500, blank=True)
    adoption = models.ForeignKey(Adoption, models.PROTECT, null=True, blank=True, related_name="model_versions")
    manifest = models.JSONField(default=dict)
    manifest_sha256 = models.CharField(max_length=64)
    config = models.JSONField(default=dict, blank=True)
    metrics = models.JSONField(default=dict, blank=True)
    uses_withdrawn_labels = models.BooleanField(default=False)
    weights_deleted_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = ModelVersionQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "kind", "number"], name="model_version_number_once"),
            models.CheckConstraint(condition=~Q(kind=""), name="model_version_kind_named"),
            models.CheckConstraint(
                condition=~Q(kind="base") | Q(stands_on__isnull=True), name="model_version_base_is_whole"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.number}"

    @property
    def is_policy(self) -> bool:
        """Whether it can answer prompts; a reward model only scores answers."""
        return self.kind in policy_kinds()

    @property
    def can_answer(self) -> bool:
        """Whether it could be served or asked now: a policy whose weights have not been deleted."""
        return self.is_policy and self.weights_deleted_at is None

    @property
    def has_weights(self) -> bool:
        """Whether its files are there: nobody has deleted them, be it by hand."""
        return self.weights_deleted_at is None and self.directory.is_dir()

    @property
    def adapter_rank(self) -> int | None:
        """The rank of the adapter; None for a whole model."""
        return self.config.get("adapter_rank") if self.stands_on_id else None

    @property
    def adapter_words(self) -> str:
        """What an adapter is, in words; empty for a whole model."""
        if self.stands_on is None:
            return ""
        return _("adapter of %(base)s, rank %(rank)s") % {"base": self.stands_on.name, "rank": self.adapter_rank}

    @property
    def directory(self) -> Path:
        """Where the weights lie."""
        return Path(settings.DATA_DIR) / (self.external_path or f"models/{self.uuid}")
