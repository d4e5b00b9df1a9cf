"""The product's settings, on a data directory (and Redis database) of this test process's own; its children inherit it.

Import nothing from here: what tests need of the settings is in django.conf.
"""

import atexit
import os
import shutil
import tempfile
from urllib.parse import urlsplit


def claim_own_place(process: str) -> None:
    """Whatever DATA_DIR the shell has is somebody's installation; tests get their own, one for each xdist process."""
    os.environ |= {"ROUNDTABLE_TESTS": process, "DATA_DIR": tempfile.mkdtemp(prefix="roundtable-tests-")}
    atexit.register(shutil.rmtree, os.environ["DATA_DIR"], ignore_errors=True)
    if redis := os.environ.get("REDIS_URL"):
        number = 15 - int(process.removeprefix("gw") or 0)
        os.environ["REDIS_URL"] = urlsplit(redis)._replace(path=f"/{number}").geturl()


_process = os.environ.get("PYTEST_XDIST_WORKER", "")
# The mark tells a directory made here from one that a test passes on to a child.
if os.environ.get("ROUNDTABLE_TESTS") != _process:
    claim_own_place(_process)

from config.settings import *  # noqa: E402, F403  (needs DATA_DIR)

if DATABASES["default"]["ENGINE"].endswith("sqlite3"):  # noqa: F405
    # A file, not memory: tests start processes that work on the same data.
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "tests.sqlite3")}  # noqa: F405
    # Tests start and kill processes, but pull no power plug.
    DATABASES["default"]["OPTIONS"] |= {"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"}  # noqa: F405
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # quick; these are nobody's passwords
WHITENOISE_AUTOREFRESH = WHITENOISE_USE_FINDERS = True
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}  # noqa: F405
API_CALLS_PER_MINUTE = {"token": 1_000_000, "person": 1_000_000}  # the tests of the limits set their own
KEEP_ENGINE_READY = False  # most tests run one engine, which would start another one for nobody
