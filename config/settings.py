"""All settings, in one file; the environment decides what differs between two installations.

Operators set DATA_DIR, DATABASE_URL, REDIS_URL, SECRET_KEY, ALLOWED_HOSTS, PUBLIC_URL, EMAIL_URL and BASE_MODELS_DIR;
the launcher reads PORT. Limits and intervals that have a good default carry the prefix ROUNDTABLE_; docs/deployment.md
names those that an operator may want to change, the others are for tests.
"""

import os
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
# What is empty counts as unset. Values are taken as they are: django-environ would read $NAME as a reference.
env.ENVIRON = {name: value.replace("$", r"\$") for name, value in os.environ.items() if value}
env.escape_proxy = True


def read_or_make_secret_key(path: Path) -> str:
    """The key in `path`; made with mode 0600 on the first start. Two processes that race both end with the same key."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _complete_key(path)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(64))
    return _complete_key(path)


def _complete_key(path: Path) -> str:
    for _attempt in range(100):
        if len(key := path.read_text().strip()) >= 50:
            return key
        # The process that created the file has not written it yet.
        time.sleep(0.02)
    raise ImproperlyConfigured(f"{path} does not contain a usable secret key. Delete it and a new one will be created.")


def read_address(variable: str, read: Callable[[], Any]) -> Any:
    """What `read` makes of an address in the environment. Raises ImproperlyConfigured, without quoting the password."""
    try:
        return read()
    except (ValueError, KeyError, ImproperlyConfigured):
        characters = "/ as %2F, ? as %3F, # as %23, [ as %5B, ] as %5D and % as %25"
        fault = f"{variable} is not a valid address. In its password, write {characters}."
        raise ImproperlyConfigured(fault) from None


def close_to_others(folder: Path) -> None:
    """Nobody else on this machine reads in `folder`; one that is not ours alone is left, and `doctor` reports it."""
    found = folder.stat()
    if found.st_mode & 0o077 and found.st_uid == os.geteuid() and not found.st_mode & stat.S_ISVTX:
        folder.chmod(0o700)


# Whatever a process of ours writes, nobody else reads: people's texts, models, logs.
os.umask(0o077)
DATA_DIR = Path(env("DATA_DIR", default=str(BASE_DIR / "data"))).resolve()
DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
close_to_others(DATA_DIR)

SECRET_KEY = env("SECRET_KEY", default="") or read_or_make_secret_key(DATA_DIR / "secret_key")
if len(SECRET_KEY) < 50:
    raise ImproperlyConfigured("SECRET_KEY must be at least 50 characters long. Unset it to have one generated.")

DEBUG = False
PUBLIC_URL = env("PUBLIC_URL", default="http://localhost:8000").rstrip("/")
_public = urlsplit(PUBLIC_URL)
IS_HTTPS = _public.scheme == "https"
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]", _public.hostname or "localhost"])
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "rest_framework",
    "drf_spectacular",
    "django_htmx",
    "csp",
    "annotate.apps.AnnotateConfig",
    "training.apps.TrainingConfig",
]

MIDDLEWARE = [
    # These first: what any other refuses leaves with their headers, too.
    "csp.middleware.CSPMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "config.errors.known_hosts",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "annotate.compression.CompressedPages",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "annotate.middleware.time_zone",
    "annotate.middleware.no_copies",
    "annotate.middleware.WelcomeFirst",
    "config.errors.refusals",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# --- Data ---------------------------------------------------------------------------------------

SQLITE_OPTIONS = {
    # A read that turns into a write fails at once under DEFERRED, whatever the timeout; IMMEDIATE waits.
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    # FULL: the last commits survive a power cut. A label lost is worth more than 0.4 ms.
    "init_command": (
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; "
        "PRAGMA journal_size_limit=67108864; PRAGMA temp_store=MEMORY;"
    ),
}

KEPT_CONNECTION = {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}  # of a database's settings: used again and again

_sqlite = f"sqlite:///{DATA_DIR / 'roundtable.sqlite3'}"
DATABASES = {"default": read_address("DATABASE_URL", lambda: env.db_url("DATABASE_URL", default=_sqlite))}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"] |= {"ENGINE": "config.sqlite3", "OPTIONS": SQLITE_OPTIONS}
else:
    DATABASES["default"] |= KEPT_CONNECTION
    # A server that vanished without a word is noticed in seconds, not when the kernel gives up after a quarter hour.
    silence = {"connect_timeout": 5, "keepalives_idle": 15, "keepalives_interval": 5, "tcp_user_timeout": 20_000}
    DATABASES["default"]["OPTIONS"] = silence | DATABASES["default"].get("OPTIONS", {})
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env("REDIS_URL", default="")
read_address("REDIS_URL", lambda: urlsplit(REDIS_URL).port)
# The login throttle lives here: it must count across processes, and signing in must not need Redis to be up.
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cache"},
    "throttle": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "throttle"},
}

# --- People -------------------------------------------------------------------------------------

AUTH_USER_MODEL = "annotate.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "annotate:home"
LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_ADAPTER = "annotate.account_adapter.InvitationOnlyAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "none"  # an invitation reached the address, or an admin vouches for it
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_PREVENT_ENUMERATION = True
# The login throttle counts by address: behind a proxy, by the one that the proxy appended to X-Forwarded-For.
ALLAUTH_TRUSTED_PROXY_COUNT = 1 if IS_HTTPS else 0

SESSION_COOKIE_AGE = 14 * 24 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_HTTPS
SECURE_SSL_REDIRECT = IS_HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if IS_HTTPS else 0  # for this host only: the rest of its domain is not ours
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if IS_HTTPS else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}
# The platform is useful over plain http on one machine; what https would add is checked where PUBLIC_URL is https.
WITHOUT_HTTPS = ["security.W004", "security.W008", "security.W012", "security.W016"]
# HSTS for subdomains, and in the list that browsers come with, is for the owner of the domain to choose.
WITHOUT_DOMAIN = ["security.W005", "security.W021"]
SILENCED_SYSTEM_CHECKS = WITHOUT_DOMAIN if IS_HTTPS else WITHOUT_HTTPS

EMAIL_CONFIG = read_address("EMAIL_URL", lambda: env.email_url("EMAIL_URL", default="consolemail://"))
vars().update(EMAIL_CONFIG)

# --- Pages --------------------------------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English"))]
FORMAT_MODULE_PATH = "config.formats"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
# Django makes files in STATIC_ROOT readable for everybody by default.
FILE_UPLOAD_PERMISSIONS, FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o600, 0o700
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024 * 1024
# What is larger is refused while it comes in; below that a form can still say what is wrong with its file.
LARGEST_BODY_BYTES = env.int("ROUNDTABLE_LARGEST_BODY_BYTES", default=64 * 1024 * 1024)
# Imports of prompts may be larger than that, in MB, by form and by API; these two addresses and no others.
LARGEST_IMPORT_MB = {"annotate:add-prompts": 100, "annotate-api:prompts": 250}
# Where bodies and uploads lie while they are read: not in /tmp, which is memory in a container.
SPOOL_DIR = DATA_DIR / "incoming"
SPOOL_DIR.mkdir(mode=0o700, exist_ok=True)
FILE_UPLOAD_TEMP_DIR = SPOOL_DIR
# A body that stands still, or takes longer than this altogether, in seconds, is refused.
BODY_IDLE_S = env.float("ROUNDTABLE_BODY_IDLE_S", default=20.0)
BODY_TOTAL_S = env.float("ROUNDTABLE_BODY_TOTAL_S", default=300.0)

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["annotate.api.authentication.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_THROTTLE_CLASSES": ["annotate.api.throttles.TokenThrottle", "annotate.api.throttles.PersonThrottle"],
    "EXCEPTION_HANDLER": "annotate.api.problems.problem_response",
    "UNAUTHENTICATED_USER": None,
}
API_CALLS_PER_MINUTE = {
    "token": env.int("ROUNDTABLE_API_CALLS_PER_TOKEN", default=600),
    "person": env.int("ROUNDTABLE_API_CALLS_PER_PERSON", default=1200),
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Roundtable",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    # Several things have a kind and a status; in the schema each goes by its own name.
    "ENUM_NAME_OVERRIDES": {
        "WorkKindEnum": "annotate.models.work.Kind",
        "AssignmentStatusEnum": "annotate.models.work.Assignment.Status",
        "RoundStatusEnum": "training.models.rounds.Round.Status",
        "RunStatusEnum": "training.models.runs.Run.Status",
        "ModelVersionKindEnum": "training.models.model_versions.ModelVersion.Kind",
    },
}

# --- Jobs ---------------------------------------------------------------------------------------

CELERY_BROKER_URL = REDIS_URL or "roundtable-files://localhost"
CELERY_BROKER_TRANSPORT_OPTIONS = {"folder": str(DATA_DIR / "broker")}  # with Redis, for what is set aside only
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_CONSUMER = "config.consumer:Consumer"
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ROUTES = {"training.supervise.v1": {"queue": "gpu"}}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# A message held in reserve when Redis restarts cannot be acknowledged, and its worker would never ask for another one.
CELERY_WORKER_DISABLE_PREFETCH = bool(REDIS_URL)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a worker outlives however long its broker is away
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# Who lives and what to cancel stand in the database; the embedded broker has no way back to ask a worker.
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False

# Lease, stall and sweep of runs, and the heartbeat of runs and of workers, in seconds; fault tests shorten them.
RUN_LEASE_S = env.float("ROUNDTABLE_RUN_LEASE_S", default=120.0)
RUN_HEARTBEAT_S = env.float("ROUNDTABLE_RUN_HEARTBEAT_S", default=10.0)
RUN_STALL_S = env.float("ROUNDTABLE_RUN_STALL_S", default=900.0)
RECONCILE_S = env.float("ROUNDTABLE_RECONCILE_S", default=20.0)
MAIL_S = 30.0
# What speaks the engine's contract: `python -m ENGINE_MODULE STAGE RUN_DIR`.
ENGINE_MODULE = env("ROUNDTABLE_ENGINE_MODULE", default="training.rlhf")
# Whether a worker keeps an engine ready for its next run, which begins seconds sooner then; it takes some 400 MB.
KEEP_ENGINE_READY = env.bool("ROUNDTABLE_KEEP_ENGINE_READY", default=True)
# What starts the processes of a run that wants several; `-m ENGINE_MODULE STAGE RUN_DIR` follows. It passes SIGTERM on,
# and lets them save a checkpoint before it kills them. {python} is this interpreter, {processes} their number.
ENGINE_LAUNCHER = env(
    "ROUNDTABLE_ENGINE_LAUNCHER",
    default="{python} -m torch.distributed.run --standalone --nproc-per-node {processes} --shutdown-timeout 60",
)
# How many processes of a run that launcher has room for; 0: one on each graphics card of the worker, or each CPU core.
ENGINE_PROCESSES = env.int("ROUNDTABLE_ENGINE_PROCESSES", default=0)
# A run is held while the disk with the data has less room than this, in bytes.
MIN_FREE_BYTES = env.int("ROUNDTABLE_MIN_FREE_BYTES", default=500_000_000)
# What nobody has finished making is removed after this time, in seconds, and a directory that no row knows is reported.
LEFTOVERS_AFTER_S = env.float("ROUNDTABLE_LEFTOVERS_AFTER_S", default=24 * 3600.0)
CELERY_BEAT_SCHEDULE = {
    "reconcile": {
        "task": "training.reconcile.v1",
        "schedule": RECONCILE_S,
        # A sweep that waited longer than the next one is due has nothing to add.
        "options": {"expires": RECONCILE_S},
    },
    "mail": {"task": "annotate.mail_notices.v1", "schedule": MAIL_S, "options": {"expires": MAIL_S}},
}
EMAIL_TIMEOUT = 10

# Less room than this in DATA_DIR is a finding of `manage.py doctor`.
LOW_DISK_BYTES = env.int("ROUNDTABLE_LOW_DISK_MB", default=2048) * 1024 * 1024

# Where base models come from: each sub-folder with a config.json may become one.
BASE_MODELS_DIR = Path(env("BASE_MODELS_DIR", default=str(DATA_DIR / "base-models")))

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "config.masking.Formatter",
            "format": "{asctime} {levelname} {name}: {message}",
            "style": "{",
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {"django.server": {"handlers": ["console"], "propagate": False}},
}
