"""Prompts: conversations that end with a user turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models.projects import Project

if TYPE_CHECKING:
    from annotate.models.people import User


class Split(models.TextChoices):
    TRAIN = "train", _("training")
    HELDOUT = "heldout", _("held out")


class Words(models.Func):
    """What is said in the turns of a conversation, as one text."""

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

    def matching(self, query: str) -> PromptQuerySet:
        """Prompts in which somebody says `query`, and those whose id or group it is; “#12” is the prompt 12."""
        said = Q(words__icontains=query)
        if query[:1] == "#" and query[1:].isdecimal() and len(query) < 20:  # beyond what a database counts
            said |= Q(pk=int(query[1:]))
        return self.alias(words=Words("messages")).filter(said | Q(external_id__iexact=query) | Q(group__iexact=query))


class Prompt(models.Model):
    """A conversation that ends with a user turn, as chat messages `[{"role", "content"}]`."""

    project = models.ForeignKey(Project, models.PROTECT, related_name="prompts")
    messages = models.JSONField()
    text_hash = models.CharField(max_length=64)  # SHA-256 of the folded conversation: finds duplicates
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
        indexes: ClassVar = [models.Index(fields=["project", "split", "id"], name="prompt_by_split")]

    def __str__(self) -> str:
        return self.question[:80]

    @property
    def question(self) -> str:
        """The user turn that asks for an answer."""
        return str(self.messages[-1]["content"])
