"""Prompts: conversations that end with a user turn."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from django.db import models
from django.db.models import Count, Exists, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models.people import User
from annotate.models.projects import Project

NUMBER = re.compile(r"#[0-9]{1,18}")


class Split(models.TextChoices):
    TRAIN = "train", _("training")
    HELDOUT = "heldout", _("held out")


class Words(models.Func):
    """The text of all turns of a conversation."""

    output_field = models.TextField()
    template = "(SELECT group_concat(json_extract(value, '$.content'), char(10)) FROM json_each(%(expressions)s))"

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "(SELECT string_agg(turn->>'content', chr(10)) FROM jsonb_array_elements(%(expressions)s) AS turn)"
        return self.as_sql(compiler, connection, template=template, **context)


class PromptQuerySet(models.QuerySet["Prompt"]):
    def for_user(self, user: User) -> PromptQuerySet:
        """Prompts of the projects that `user` administers; annotators meet prompts through assignments only."""
        return self.filter(project__in=Project.objects.administered_by(user))

    def active(self) -> PromptQuerySet:
        """Prompts that were not withdrawn."""
        return self.filter(withdrawn_at=None)

    def withdrawn(self) -> PromptQuerySet:
        return self.exclude(withdrawn_at=None)

    def of_split(self, split: str) -> PromptQuerySet:
        return self.filter(split=split)

    def matching(self, query: str) -> PromptQuerySet:
        """Prompts whose text contains `query`, and those whose number (as #12), id or group it is."""
        found = Q(words__icontains=query) | Q(external_id__iexact=query) | Q(group__iexact=query)
        if NUMBER.fullmatch(query):
            found |= Q(pk=int(query[1:]))
        return self.alias(words=Words("messages")).filter(found)

    def like(self, prompt: Prompt) -> PromptQuerySet:
        """`prompt` and its near-duplicates."""
        return self.filter(project=prompt.project_id, folded_hash=prompt.folded_hash)

    def near_duplicates(self) -> PromptQuerySet:
        """Prompts that are almost the same as another one that was not withdrawn either."""
        others = Prompt.objects.active().filter(project=OuterRef("project"), folded_hash=OuterRef("folded_hash"))
        return self.filter(Exists(others.exclude(pk=OuterRef("pk"))))

    def sides(self) -> dict[str, int]:
        """How many prompts stand on each side of the split."""
        return self.aggregate(
            train=Count("pk", filter=Q(split=Split.TRAIN)), heldout=Count("pk", filter=Q(split=Split.HELDOUT))
        )


class Prompt(models.Model):
    """A conversation that ends with a user turn, as chat messages `[{"role", "content"}]`."""

    project = models.ForeignKey(Project, models.PROTECT, related_name="prompts")
    messages = models.JSONField()
    text_hash = models.CharField(max_length=64)  # SHA-256 of the conversation as it is: a text is there once
    folded_hash = models.CharField(max_length=64)  # of the folded conversation: near-duplicates share it
    external_id = models.CharField(max_length=200, null=True, blank=True)  # noqa: DJ001  (unique where given)
    group = models.CharField(max_length=200)  # prompts of one group share a split
    split = models.CharField(max_length=7, choices=Split)
    metadata = models.JSONField(default=dict, blank=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = PromptQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "text_hash"], name="prompt_text_once_per_project"),
            models.UniqueConstraint(fields=["project", "external_id"], name="prompt_external_id_once_per_project"),
            models.CheckConstraint(condition=Q(split__in=Split.values), name="prompt_split_known"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["project", "split", "id"], name="prompt_by_split"),
            models.Index(fields=["project", "folded_hash", "id"], name="prompt_by_folded_text"),
        ]

    def __str__(self) -> str:
        return self.question[:80]

    @property
    def question(self) -> str:
        """The user turn that asks for an answer."""
        return str(self.messages[-1]["content"])

    @property
    def name(self) -> str:
        """How people find it again: its number, by which the list of prompts searches, and its own id if it has one."""
        return f"#{self.pk} ({self.external_id})" if self.external_id else f"#{self.pk}"
