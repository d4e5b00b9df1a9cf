"""The WSGI application in a server process that ends with granian's main process, even when that one is killed.

Without this, an orphan goes on answering on the port beside its successor, with old code.
"""

from multiprocessing import parent_process

from deploy.child import end_with

if granian := parent_process():
    assert granian.pid is not None
    end_with(granian.pid)

from config.wsgi import application

__all__ = ["application"]
