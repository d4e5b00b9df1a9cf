"""The Celery application. Beat only nudges the reconciler: the database rows are the jobs, messages are doorbells."""

import logging
import os
from typing import Any

from celery import Celery
from celery.signals import after_setup_logger, after_setup_task_logger
from kombu.entity import Exchange, Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import config.broker  # noqa: F401  (registers the embedded broker's transport)
from config.masking import mask_handlers

app = Celery("roundtable")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.task_queues = [Queue(name, Exchange(name), routing_key=name) for name in ("default", "gpu")]
app.autodiscover_tasks(["annotate", "training"])


def mask_log(logger: logging.Logger | None = None, **_: Any) -> None:
    """Celery brings handlers of its own."""
    mask_handlers([logger] if logger else [])


after_setup_logger.connect(mask_log)
after_setup_task_logger.connect(mask_log)
