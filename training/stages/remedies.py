"""What helps, and where: of a line of the pre-flight, a finding, or a failed run."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from training.stages.metric import Words


class Remedy(Enum):
    """A link with its words, or words alone where no page mends it."""

    PROMPTS = "prompts", "annotate:prompts", _("Prompts")
    SETTINGS = "settings", "annotate:settings", _("Settings")
    RANK = "rank", "annotate:rank", _("Rank answers")
    MEMBERS = "members", "annotate:members", _("Invite people")
    LABELS = "labels", "annotate:reviews", _("Review answers")
    GUIDELINES = "guidelines", "annotate:edit-guidelines", _("Guidelines")
    QUEUE = "queue", "#queue", _("Queue")
    EXAMPLES = "examples", "#examples", _("Examples")
    DISK = (
        "disk",
        "",
        _("“manage.py prune” shows which old weights can be deleted; “manage.py prune --yes” deletes them."),
    )
    MODEL_FILES = "model_files", "", _("Fix it in the base model's files.")
    TRAINING = "training", "training:settings", _("Training settings")
    LOG = "log", "", _("See the gpu-worker's log for details.")
    WORKER = "worker", "", _("Start one with “make run”, or check its log.")

    address: str  # the name of a page of the project, or a part of the page that shows it; empty: words alone
    words: Words

    def __new__(cls, key: str, address: str, words: Words) -> Remedy:
        """The key alone is the value: comparing values would translate the words while the module is imported."""
        remedy = object.__new__(cls)
        remedy._value_, remedy.address, remedy.words = key, address, words
        return remedy

    def url(self, slug: str) -> str:
        """Where it leads in the project `slug`; empty where there are words alone."""
        return reverse(self.address, args=[slug]) if ":" in self.address else self.address


class Rule(NamedTuple):
    """What one kind of failure means and what helps. The kind is what the engine writes into ending.json."""

    sentence: Words
    advice: Words
    remedy: Remedy | None = None
    settings: tuple[str, ...] = ()  # of the stage that failed, by which it is mended
