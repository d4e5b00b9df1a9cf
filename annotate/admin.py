"""Django's own admin, for site admins who look into a problem: it shows rows, and changes nothing.

What people may change goes through the pages, where services keep the rules and the audit trail is written.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest

from annotate.models import (
    Assignment,
    AuditEvent,
    Demonstration,
    Member,
    Project,
    Prompt,
    Ranking,
    Review,
    Slate,
    User,
    WorkItem,
)


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # no generic class at run time
    """Rows to read."""

    list_per_page = 50
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Only the filters next to the list: other lookups could find out a hash, one character at a time."""
        return lookup.partition("__")[0] in self.list_filter and super().lookup_allowed(lookup, value, request)


@admin.register(User)
class UserAdmin(ReadOnlyAdmin):
    list_display = ("email", "name", "is_active", "is_superuser", "last_login")
    search_fields = ("email", "name")
    exclude: ClassVar[tuple[str, ...]] = ("password",)


@admin.register(Project)
class ProjectAdmin(ReadOnlyAdmin):
    list_display = ("name", "slug", "demonstration_seats", "ranking_seats", "heldout_share", "created_at")


@admin.register(Member)
class MemberAdmin(ReadOnlyAdmin):
    list_display = ("id", "project", "user", "role", "is_simulated", "removed_at", "erased_at")
    list_filter = ("project", "role", "is_simulated")
    list_select_related = ("project", "user")


@admin.register(Prompt)
class PromptAdmin(ReadOnlyAdmin):
    list_display = ("id", "project", "split", "group", "external_id", "withdrawn_at")
    list_filter = ("project", "split")
    list_select_related = ("project",)


@admin.register(Slate)
class SlateAdmin(ReadOnlyAdmin):
    list_display = ("id", "project", "prompt_id", "created_at")
    list_filter = ("project",)
    list_select_related = ("project",)


@admin.register(WorkItem)
class WorkItemAdmin(ReadOnlyAdmin):
    list_display = ("id", "project", "kind", "status", "seats", "seats_taken", "submitted_count", "skipped_count")
    list_filter = ("project", "kind", "status")
    list_select_related = ("project",)


@admin.register(Assignment)
class AssignmentAdmin(ReadOnlyAdmin):
    list_display = ("id", "project", "kind", "item_id", "annotator_id", "status", "seat", "is_extra", "lease_until")
    list_filter = ("project", "kind", "status")
    list_select_related = ("project",)


@admin.register(Demonstration, Ranking)
class LabelAdmin(ReadOnlyAdmin):
    list_display = ("id", "project", "annotator_id", "supersedes_id", "created_at")
    list_filter = ("project",)
    list_select_related = ("project",)


@admin.register(Review)
class ReviewAdmin(ReadOnlyAdmin):
    list_display = ("id", "verdict", "demonstration_id", "ranking_id", "reviewer_id", "created_at")
    list_filter = ("verdict",)


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "project", "actor", "action", "subject")
    list_filter = ("project", "action")
    list_select_related = ("project", "actor")
