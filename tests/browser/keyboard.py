"""Hands without a mouse, and the screen of a phone."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, ViewportSize

FARTHEST = 200  # stops of the Tab key
PHONE: ViewportSize = {"width": 360, "height": 740}


def press(control: Locator) -> None:
    """Go to `control` by the Tab key, and press Enter."""
    reach(control)
    control.page.keyboard.press("Enter")


def reach(control: Locator) -> None:
    """Tab on until `control` has the focus, as far as that takes on a page that may renew itself."""
    for _ in range(FARTHEST):
        if control.evaluate("control => control === document.activeElement"):
            return
        control.page.keyboard.press("Tab")
    raise AssertionError(f"the Tab key does not lead to {control}")


def fits(page: Page) -> bool:
    """Nothing stands beside the screen, where one would have to scroll for it."""
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")
