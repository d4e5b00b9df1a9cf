"""A real Chromium against a real server; tests are skipped, and say so, where no Chromium is found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, ViewportSize, expect, sync_playwright

from annotate.models import Member, User
from tests.browser.chromium import NAMES, find_chromium
from tests.web_server import Server

# Playwright's own event loop runs in this thread; the tests' queries between its calls are none of its business.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"

PATIENCE_MS = 45_000  # of a machine that two workers keep busy: what is there comes in a second
NO_SUCCESS = ("Failed to load resource", "Response Status Error Code", "htmx:sendError", "htmx:afterRequest")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in item.path.parts:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        pytest.skip(f"no Chromium: set CHROMIUM_PATH, or install one of {', '.join(NAMES)}")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def window(browser: Browser, live_server) -> Iterator[BrowserContext]:
    """A window of its own, with the live server's address."""
    with open_window(browser, live_server.url) as window:
        yield window


@pytest.fixture
def server(transactional_db: None) -> Iterator[Server]:
    """A web process that a test may kill."""
    server = Server()
    yield server
    server.kill()


@pytest.fixture
def page(browser: Browser, admin: Member, server: Server) -> Iterator[Page]:
    """An empty page of the project's admin, on the server that may be killed."""
    with open_window(browser, server.url) as window:
        sign_in(window, admin.user, server.url)
        yield window.new_page()


@contextmanager
def open_window(browser: Browser, url: str) -> Iterator[BrowserContext]:
    """A window with the address of a server; what went wrong in its pages fails the test."""
    size: ViewportSize = {"width": 1440, "height": 900}
    context = browser.new_context(base_url=url, viewport=size, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    faults = watch(context)
    yield context
    context.close()
    assert faults == []


def watch(context: BrowserContext) -> list[str]:
    """What goes wrong in the pages of `context` from now on: errors of scripts, and what the strict policy refuses.

    The policy's refusals are told on the console only. An answer that is no success, or none, stands there, too: it
    is the tests' business, which kill servers and fill forms in wrongly.
    """
    faults: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(NO_SUCCESS):
            faults.append(message.text)

    context.on("weberror", lambda error: faults.append(str(error.error)))
    context.on("console", hear)
    return faults


@pytest.fixture
def open_as(window: BrowserContext, live_server) -> Callable[[User, str], Page]:
    """Open a page as `user`."""

    def open_page(user: User, address: str) -> Page:
        sign_in(window, user, live_server.url)
        page = window.new_page()
        page.goto(address)
        wait_for_scripts(page)
        return page

    return open_page


def wait_for_scripts(page: Page) -> None:
    """Until keys are heard: htmx gives the page to its scripts in a timer, and one that is set now comes later."""
    page.evaluate("() => new Promise((done) => setTimeout(done))")


def sign_in(window: BrowserContext, user: User, url: str) -> None:
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "allauth.account.auth_backends.AuthenticationBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    window.add_cookies([{"name": "sessionid", "value": session.session_key or "", "url": url}])
