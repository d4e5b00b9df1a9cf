"""The web application in a server process that ends with granian's main process, even when that one is killed.

Without this, an orphan goes on answering on the port next to its successor, with old code.
"""

import logging
from multiprocessing import parent_process

from deploy import connections
from deploy.child import end_with

if granian := parent_process():
    assert granian.pid is not None
    end_with(granian.pid)
    connections.allow_many()
    connections.drop_unread_answers()

from django.conf import settings

from config.asgi import application
from config.masking import mask_handlers

# A page thread keeps its connection to SQLite, too: closing the last one takes longer than most pages. Workers cannot:
# they fork, and SQLite's locks do not survive that.
settings.DATABASES["default"] |= settings.KEPT_CONNECTION

mask_handlers([logging.getLogger("_granian"), logging.getLogger("granian.access")])

__all__ = ["application"]
