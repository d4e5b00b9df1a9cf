"""The Celery application. Beat only nudges the reconciler: the database rows are the jobs, messages are doorbells."""

import os

from celery import Celery
from kombu import Exchange, Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import config.broker  # noqa: F401  (registers the embedded broker's transport)

app = Celery("roundtable")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.task_queues = [Queue(name, Exchange(name), routing_key=name) for name in ("default", "gpu")]
app.autodiscover_tasks(["annotate", "training"])
