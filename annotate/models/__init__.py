from annotate.models.audit import AuditEvent
from annotate.models.completions import Completion, FinishReason, Slate
from annotate.models.demonstrations import Demonstration
from annotate.models.labels import LeftOut, Verdict
from annotate.models.members import Member, SignInLink
from annotate.models.notices import Notice
from annotate.models.people import ApiToken, Role, User
from annotate.models.projects import Project
from annotate.models.prompts import Prompt, Split
from annotate.models.rankings import Placement, Ranking
from annotate.models.reviews import Review
from annotate.models.work import Assignment, Kind, QueueCursor, WorkItem

Label = Demonstration | Ranking
LABELS: dict[str, type[Label]] = {Kind.DEMONSTRATION.value: Demonstration, Kind.RANKING.value: Ranking}

__all__ = [
    "LABELS",
    "ApiToken",
    "Assignment",
    "AuditEvent",
    "Completion",
    "Demonstration",
    "FinishReason",
    "Kind",
    "Label",
    "LeftOut",
    "Member",
    "Notice",
    "Placement",
    "Project",
    "Prompt",
    "QueueCursor",
    "Ranking",
    "Review",
    "Role",
    "SignInLink",
    "Slate",
    "Split",
    "User",
    "Verdict",
    "WorkItem",
]
