"""Takes the README's pictures from a real installation: two rounds of the demo project, played by simulated people.

    .venv/bin/python docs/screenshots.py [--every FOLDER]

With --every it also writes each page into FOLDER at 360, 1024 and 1920 pixels, dark and light: to look at before a
release. Takes some minutes; needs the Chromium that the browser tests need.
"""

import argparse
import os
import random
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, ViewportSize, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.browser.chromium import find_chromium
from training.tiny import annotators, preset
from training.tiny.annotators import Behaviour
from training.tiny.demo import ADMIN, PROJECT, Demo
from training.tiny.gold import utility
from training.tiny.installation import Installation

IMAGES = Path(__file__).resolve().parent / "images"
ANNOTATOR = "annotator@roundtable.example"
PICTURE: ViewportSize = {"width": 1280, "height": 800}
SIZES: dict[str, ViewportSize] = {
    "phone": {"width": 360, "height": 740},
    "tablet": {"width": 1024, "height": 768},
    "wide": {"width": 1920, "height": 1080},
}
PPO_S = 600  # until a few of its iterations have been done
SLATES_LEFT = 40  # that nobody has ranked yet
BASE = f"/projects/{PROJECT}"
PAGES = {
    "home": (ANNOTATOR, "/"),
    "rank": (ANNOTATOR, f"{BASE}/rank/"),
    "write": (ANNOTATOR, f"{BASE}/write/"),
    "my-work": (ANNOTATOR, f"{BASE}/my-work/"),
    "guidelines": (ANNOTATOR, f"{BASE}/guidelines/"),
    "account": (ANNOTATOR, "/account/"),
    "overview": (ADMIN, f"{BASE}/"),
    "prompts": (ADMIN, f"{BASE}/prompts/"),
    "add-prompts": (ADMIN, f"{BASE}/prompts/add/"),
    "members": (ADMIN, f"{BASE}/members/"),
    "settings": (ADMIN, f"{BASE}/settings/"),
    "training-settings": (ADMIN, f"{BASE}/settings/training/"),
    "audit": (ADMIN, f"{BASE}/settings/audit/"),
    "export": (ADMIN, f"{BASE}/export/"),
    "reviews": (ADMIN, f"{BASE}/reviews/"),
    "notices": (ADMIN, "/notices/"),
    "rounds": (ADMIN, f"{BASE}/rounds/"),
    "round-1": (ADMIN, f"{BASE}/rounds/1/"),
    "round-2": (ADMIN, f"{BASE}/rounds/2/"),
    "models": (ADMIN, f"{BASE}/models/"),
    "history": (ADMIN, f"{BASE}/models/history/"),
    "questions": (ADMIN, f"{BASE}/models/questions/"),
    "system": (ADMIN, "/system/"),
    "admins-home": (ADMIN, "/"),
}


class Camera:
    """A browser in which people of the installation are signed in."""

    def __init__(self, browser: Browser, place: Installation) -> None:
        self.place = place
        self.windows = {email: self._signed_in(browser, email) for email in (ADMIN, ANNOTATOR)}

    def page(self, email: str, address: str) -> Page:
        page = self.windows[email].new_page()
        page.goto(self.place.url + address)
        page.wait_for_timeout(1000)  # for what the page asks for afterwards
        return page

    def picture(self, page: Page, name: str) -> None:
        """One of the README's, in the light."""
        page.set_viewport_size(PICTURE)
        page.wait_for_timeout(500)
        page.screenshot(path=IMAGES / f"{name}.png")

    def every(self, page: Page, name: str, folder: Path) -> None:
        """The whole page on each screen in both colours."""
        folder.mkdir(parents=True, exist_ok=True)
        for size, viewport in SIZES.items():
            page.set_viewport_size(viewport)
            for colours in ("light", "dark"):
                page.emulate_media(color_scheme=colours, reduced_motion="reduce")
                page.wait_for_timeout(300)
                page.screenshot(path=folder / f"{name}-{size}-{colours}.png", full_page=True)
        page.emulate_media(color_scheme="light", reduced_motion="reduce")

    def _signed_in(self, browser: Browser, email: str) -> BrowserContext:
        window = browser.new_context(viewport=PICTURE, color_scheme="light", reduced_motion="reduce")
        page = window.new_page()
        window.on("console", _tell)
        page.goto(self.place.url + urlsplit(self.place.manage("sign_in_link", email).strip()).path)
        page.locator("main form button").first.click()
        page.wait_for_load_state()
        page.close()
        return window


def take(place: Installation, browser: Browser, folder: Path | None) -> None:
    sizes = {"completions": preset.DEMO_K, "slates": preset.DEMO_SLATES}
    demo = Demo(place, seed=10, people=8, shuffle=Behaviour.shuffle, say=print, **sizes)
    demo.prepare()
    demo.wait("the first page", PPO_S, demo.is_up)
    camera = Camera(browser, place)
    annotators.work(demo.team, "demonstration", wanted=preset.DEMONSTRATIONS)
    camera.picture(_writing(camera), "write")
    demo.round(1)
    annotators.work(demo.team, "ranking", wanted=preset.DEMO_SLATES - SLATES_LEFT)
    camera.picture(_ranking(camera), "rank")
    camera.picture(camera.page(ANNOTATOR, "/"), "home")
    demo.open_round()
    demo.wait("PPO", PPO_S, lambda: _ppo_has_come_to(demo, 12))
    running = camera.page(ADMIN, f"{BASE}/rounds/2/")
    camera.picture(running, "round")
    if folder:
        camera.every(running, "round-2-running", folder)
        _every_page(demo, camera, folder)


def _every_page(demo: Demo, camera: Camera, folder: Path) -> None:
    demo.wait("the end of round 2", PPO_S, lambda: _status(demo)["status"] == "succeeded")
    for name, (email, address) in PAGES.items():
        camera.every(camera.page(email, address), name, folder)
    runs = [stage["run"]["id"] for stage in _status(demo)["stages"] if stage["run"]]
    models = [model["id"] for model in demo.admin.get(f"projects/{PROJECT}/models/")["results"]]
    compared = "&".join(f"model={pk}" for pk in models[:3])
    more = {f"run-{pk}": f"{BASE}/runs/{pk}/" for pk in runs} | {f"model-{pk}": f"{BASE}/models/{pk}/" for pk in models}
    more |= {"compare": f"{BASE}/models/compare/?{compared}", "promote": f"{BASE}/models/{models[0]}/promote/"}
    for name, address in more.items():
        camera.every(camera.page(ADMIN, address), name, folder)


def _tell(message: ConsoleMessage) -> None:
    """What went wrong in a page."""
    if message.type == "error":
        print(message.page and message.page.url, message.text, file=sys.stderr)


def _writing(camera: Camera) -> Page:
    page = camera.page(ANNOTATOR, f"{BASE}/write/")
    question = page.locator(".turn .text").last.inner_text()
    page.locator("textarea").first.fill(annotators.write(question, random.Random(1)))
    page.wait_for_timeout(3000)  # until it is saved
    return page


def _ranking(camera: Camera) -> Page:
    """A slate whose three best answers are placed, two of them tied."""
    page = camera.page(ANNOTATOR, f"{BASE}/rank/")
    question = page.locator("[data-prompt] .text").last.inner_text()
    worth = {
        card.get_attribute("data-answer") or "": utility(question, card.locator("[data-as=raw]").text_content() or "")
        for card in page.locator("[data-answer]").all()
    }
    best = sorted(worth, key=lambda letter: -worth[letter])
    for letter, place in zip(best, "122", strict=False):
        page.keyboard.press(letter.lower())
        page.keyboard.press(place)
    page.evaluate("scrollTo(0, 0)")
    return page


def _ppo_has_come_to(demo: Demo, step: int) -> bool:
    runs = [stage["run"] for stage in _status(demo)["stages"] if stage["stage"] == "ppo" and stage["run"]]
    return any(run["step"] >= step for run in runs)


def _status(demo: Demo) -> dict[str, Any]:
    found: dict[str, Any] = demo.admin.get(f"projects/{PROJECT}/rounds/2/")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright, Installation() as place:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=arguments)
        take(place, browser, options.every)


if __name__ == "__main__":
    main()
