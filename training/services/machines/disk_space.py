"""Room on the disk with the data: training stops, and says so, before there is none left for labels."""

from __future__ import annotations

import shutil

from django.conf import settings
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _


def shortage() -> str:
    """In words, that the disk has too little room to train; empty where it has enough."""
    free = shutil.disk_usage(settings.DATA_DIR).free
    if free >= settings.MIN_FREE_BYTES:
        return ""
    return _(
        "The disk with the data has %(free)s free, and %(needed)s must stay free. "
        "The run goes on by itself once there is room again."
    ) % {"free": filesizeformat(free), "needed": filesizeformat(settings.MIN_FREE_BYTES)}


def full(error: Exception) -> str:
    """In words, that a file could not be written."""
    return _("The disk is full: %(error)s") % {"error": error}
