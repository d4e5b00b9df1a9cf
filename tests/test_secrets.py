"""Secrets stay where they belong: not in logs, not in complaints, not in what the Django admin can be asked."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from annotate.services.people import links, tokens
from config.masking import Formatter, mask_handlers, masked
from tests.factories import make_member, make_user

SECRET = "s3cr3t-0123456789abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    "line",
    [
        f"Not Found: /account/link/{SECRET}/",
        f"GET /account/login/?next=/account/link/{SECRET}/ 200",
        f"GET /account/login/?next=%2Faccount%2Flink%2F{SECRET}%2F 200",
        f"Authorization: Bearer rt_{SECRET}",
        f"cannot connect to postgres://roundtable:{SECRET}@db:5432/roundtable",
        f"cannot connect to redis://:{SECRET}@redis:6379/0",
        f"smtp+tls://me:a@b:{SECRET}@mail.example:587",
        f"Cookie: theme=dark; sessionid={SECRET}; csrftoken={SECRET}",
        f"login=a&password={SECRET}&password1={SECRET}&remember=on",
    ],
)
def test_a_secret_in_a_line_is_masked_and_the_rest_stays(line: str) -> None:
    shown = masked(line)
    assert SECRET not in shown
    assert shown.split(SECRET, maxsplit=1)[0][:9] == line[:9]
    assert masked(shown) == shown


def test_what_is_no_secret_stays_as_it_is() -> None:
    line = "2026-01-01 10:00 INFO x: http://localhost:8000/projects/a/?q=b@c took 3:10, see /account/tokens/ and rt_1"
    assert masked(line) == line


def test_arguments_and_tracebacks_are_masked_too() -> None:
    try:
        raise ValueError(f"postgres://u:{SECRET}@h/d")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "a.py", 1, "%s", (f"/account/link/{SECRET}/",), sys.exc_info())
    said = Formatter("{message}", style="{").format(record)
    assert "ValueError" in said
    assert SECRET not in said


def test_lines_of_others_handlers_keep_their_form(tmp_path: Path) -> None:
    logger = logging.Logger("other")
    handler = logging.FileHandler(tmp_path / "log")
    handler.setFormatter(logging.Formatter("<%(message)s>"))
    logger.addHandler(handler)
    for _ in range(2):
        mask_handlers([logger])
    logger.warning("GET /account/link/%s/", SECRET)
    handler.close()
    assert (tmp_path / "log").read_text() == "<GET /account/link/***/>\n"


def test_every_handler_of_the_product_masks() -> None:
    """In a fresh process with the product's settings, since the tests' own handlers are others."""
    script = (
        "import django, logging; django.setup()\n"
        "names = ['', *logging.root.manager.loggerDict]\n"
        "handlers = [handler for name in names for handler in logging.getLogger(name).handlers]\n"
        "write = [one for one in handlers if not isinstance(one, logging.NullHandler)]\n"
        "print(*{type(handler.formatter).__module__ for handler in write if not handler.filters})"  # no debugging
    )
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=settings.BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["config.masking"]


@pytest.mark.parametrize("where", ["fail()", "threading.Thread(target=fail, name='one').start()"])
def test_what_ends_a_process_or_a_thread_is_masked_on_stderr(where: str) -> None:
    script = (
        "import django, threading; django.setup()\n"
        f"def fail(): raise ValueError('redis://:{SECRET}@h:1/0 /account/link/{SECRET}/ rt_{SECRET}')\n"
        f"{where}"
    )
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True
    )
    assert "ValueError: redis://:***@h:1/0 /account/link/***/ rt_***" in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", f"postgres://user:{SECRET}/more@host/name"),
        ("REDIS_URL", f"redis://:{SECRET}/more@host:6379/0"),
        ("EMAIL_URL", f"smtp+tls://user:{SECRET}/more@host:587"),
    ],
)
def test_an_address_that_cannot_be_read_is_named_but_not_quoted(tmp_path: Path, variable: str, value: str) -> None:
    environment = os.environ | {variable: value, "DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "config.settings"}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True
    )
    assert done.returncode
    assert f"{variable} is not a valid address" in done.stderr
    assert SECRET[:8] not in done.stderr + done.stdout


@pytest.mark.slow
def test_a_worker_masks_what_its_tasks_and_messages_bring(tmp_path: Path) -> None:
    """A task that fails, one that nobody knows, and one with arguments that it does not take."""
    environment = os.environ | {
        "DATA_DIR": str(tmp_path),
        "DATABASE_URL": f"sqlite:///{tmp_path / 'a.sqlite3'}",
        "REDIS_URL": "",
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    said = f"postgres://u:{SECRET}@h/d /account/link/{SECRET}/ rt_{SECRET}"
    script = (
        "import django; django.setup()\n"
        "from config.celery import app\n"
        f"app.send_task('training.supervise.v1', args=['{said}'], queue='gpu')\n"
        f"app.send_task('no.such.task', args=['{said}'], queue='gpu')\n"
        f"app.send_task('training.supervise.v1', args=[1, 2, '{said}'], queue='gpu')\n"
        f"app.send_task('training.supervise.v1', args=[1], kwargs={{'{said}': 1}}, queue='gpu')\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=settings.BASE_DIR, env=environment, check=True)
    command = [sys.executable, "-m", "celery", "-A", "config", "worker", "-Q", "gpu", "-P", "solo", "-l", "DEBUG"]
    log = tmp_path / "worker.log"
    with log.open("wb") as file:
        worker = subprocess.Popen(command, cwd=settings.BASE_DIR, env=environment, stdout=file, stderr=file)
        try:
            until = time.monotonic() + 60
            while log.read_text().count("could not be read") < 3 and time.monotonic() < until:
                time.sleep(0.1)
        finally:
            worker.terminate()
            worker.wait(30)
    written = log.read_text()
    assert written.count("could not be read") == 3
    assert "raised unexpected" in written
    assert "/account/link/***/ rt_***" in written
    assert SECRET not in written


@pytest.mark.django_db
def test_a_link_that_fails_leaves_no_secret_in_the_log(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.setFormatter(Formatter("{message}", style="{"))
    made = links.make("a@example.org", purpose="sign_in")
    assert client.get(reverse("annotate:link", args=["x" + made.secret])).status_code == 410
    assert "/account/link/***/" in caplog.text
    assert made.secret not in caplog.text


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("page", "lookups"),
    [
        ("annotate_user", ["password__startswith", "password__regex", "api_tokens__token_hash__startswith"]),
        (
            "annotate_user",
            ["is_active__exact", "email__startswith", "memberships__project__invitations__token_hash__lt"],
        ),
        ("annotate_member", ["user__password__startswith", "project__members__user__password__gt", "user__email"]),
        ("annotate_project", ["invitations__token_hash__startswith", "created_by__password__startswith"]),
        ("annotate_auditevent", ["actor__password__startswith"]),
        ("training_run", ["round__opened_by__password__startswith", "project__members__user__password__startswith"]),
        ("training_download", ["asked_by__password__startswith", "asked_by__api_tokens__token_hash__startswith"]),
    ],
)
def test_the_django_admin_cannot_be_asked_for_a_hash_letter_by_letter(
    client: Client, page: str, lookups: list[str]
) -> None:
    client.force_login(make_user(is_site_admin=True))
    for lookup in lookups:
        answer = client.get(reverse(f"admin:{page}_changelist"), {lookup: "a"})
        assert answer.status_code == 400, lookup


@pytest.mark.django_db
def test_the_filters_of_the_django_admin_still_filter(client: Client) -> None:
    client.force_login(make_user(is_site_admin=True))
    member = make_member()
    asked = {"project__id__exact": member.project_id, "role__exact": member.role}
    answer = client.get(reverse("admin:annotate_member_changelist"), asked)
    assert answer.status_code == 200
    assert reverse("admin:annotate_member_change", args=[member.pk]) in answer.content.decode()


@pytest.mark.django_db
def test_no_page_of_the_django_admin_shows_a_hash(client: Client) -> None:
    client.force_login(make_user(is_site_admin=True))
    person = make_user()
    person.set_password("a long password")
    person.save()
    made = tokens.make(person, name="t", scopes=["read"], days=1)
    shown = client.get(reverse("admin:annotate_user_change", args=[person.pk])).content.decode()
    assert person.password not in shown
    assert made.token.token_hash not in shown
