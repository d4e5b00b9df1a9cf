"""Account and administration in a browser: a project is made, a newcomer invited, a label reviewed."""

from __future__ import annotations

import json

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.sessions.models import Session
from playwright.sync_api import expect

from annotate.models import Member, Project, Review, Role, User, Verdict
from annotate.services import projects, reviews
from tests.browser.conftest import sign_in, wait_for_scripts, watch
from tests.browser.keyboard import fits
from tests.factories import make_demonstration, make_member, make_prompt, make_ranking, make_user


def test_a_site_admin_makes_a_project_and_a_newcomer_joins_by_the_link(open_as, browser, live_server):
    page = open_as(make_user(is_site_admin=True), "/projects/new/")
    page.get_by_label("Name").fill("Everyday questions")
    page.get_by_role("button", name="Create project").click()
    page.get_by_role("navigation").get_by_role("link", name="Members").click()
    page.get_by_label("Email address").fill("new@example.org")
    page.get_by_role("button", name="Create invitation").click()
    link = page.get_by_label("Link", exact=True).input_value()

    theirs = browser.new_context(base_url=live_server.url)
    faults = watch(theirs)
    newcomer = theirs.new_page()
    newcomer.goto(link)
    newcomer.get_by_role("button", name="Join project").click()
    expect(newcomer.get_by_text("Welcome to “Everyday questions”")).to_be_visible()
    newcomer.get_by_label("Name").fill("Grace")
    newcomer.get_by_role("button", name="Start").click()
    newcomer.get_by_text("Account", exact=True).click()
    newcomer.get_by_role("link", name="Your account").click()
    newcomer.get_by_role("link", name="Choose a password").click()
    newcomer.get_by_label("Password", exact=True).fill("seven green bicycles")
    newcomer.get_by_label("Password (again)").fill("seven green bicycles")
    newcomer.get_by_role("button", name="Set password").click()
    newcomer.get_by_text("Account", exact=True).click()
    newcomer.get_by_role("button", name="Sign out").click()
    newcomer.get_by_label("Email").fill("new@example.org")
    newcomer.get_by_label("Password").fill("seven green bicycles")
    newcomer.get_by_role("button", name="Sign in").click()
    expect(newcomer).to_have_url(f"{live_server.url}/")
    theirs.close()
    assert faults == []
    assert Member.objects.get(user__email="new@example.org").project == Project.objects.get()


@pytest.mark.parametrize("width", [390, 1280])
def test_a_name_without_a_space_makes_no_page_scroll_sideways(open_as, project, admin, width):
    Project.objects.filter(pk=project.pk).update(name="W" * 120)
    page = open_as(admin.user, "/")
    page.set_viewport_size({"width": width, "height": 900})
    for address in ("/", "/projects/", f"/projects/{project.slug}/", f"/projects/{project.slug}/settings/"):
        page.goto(address)
        assert fits(page), address


def test_a_member_is_removed_only_after_the_consequences_were_read(open_as, project, admin, annotator):
    page = open_as(admin.user, f"/projects/{project.slug}/members/")
    row = page.get_by_role("row").filter(has_text=str(annotator))
    row.get_by_role("button", name="Remove…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("their unfinished items go back to the queue")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    row.get_by_role("button", name="Remove…").click()
    dialog.get_by_role("button", name="Remove member, keep labels").click()
    expect(page.get_by_text("is no longer a member")).to_be_visible()
    annotator.refresh_from_db()
    assert annotator.removed_at


def test_a_label_is_accepted_with_a_key_and_the_next_one_comes(open_as, project, annotator, reviewer):
    first, second = make_demonstration(annotator, "Rest."), make_demonstration(annotator, "Drink water.")
    page = open_as(reviewer.user, f"/projects/{project.slug}/reviews/demonstration/{first.pk}/")
    page.keyboard.press("a")
    expect(page.get_by_text("Drink water.")).to_be_visible()
    page.get_by_label("Comment for the author").fill("Say how much.")
    page.get_by_role("button", name="Return").click()
    expect(page.get_by_text("That was the last one")).to_be_visible()
    assert set(Review.objects.values_list("demonstration", "verdict")) == {(first.pk, "accept"), (second.pk, "return")}


def test_a_key_that_is_held_accepts_one_label(open_as, project, annotator, reviewer):
    first, _second = make_demonstration(annotator, "Rest."), make_demonstration(annotator, "Drink water.")
    page = open_as(reviewer.user, f"/projects/{project.slug}/reviews/demonstration/{first.pk}/")
    page.keyboard.down("a")
    expect(page.get_by_text("Accepted. View the label")).to_be_visible()
    wait_for_scripts(page)
    page.keyboard.down("a")
    page.keyboard.up("a")
    page.get_by_role("link", name="View the label").click()
    expect(page.get_by_text("Rest.")).to_be_visible()
    assert Review.objects.get().demonstration == first


def test_a_comment_survives_a_reload_and_an_expired_session(open_as, live_server, project, annotator, reviewer):
    label = make_demonstration(annotator)
    page = open_as(reviewer.user, f"/projects/{project.slug}/reviews/demonstration/{label.pk}/")
    comment = page.get_by_label("Comment for the author")
    comment.fill("Say how much.")
    page.reload()
    expect(comment).to_have_value("Say how much.")
    Session.objects.all().delete()
    page.get_by_role("button", name="Return").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    expect(comment).to_have_value("Say how much.")
    sign_in(page.context, reviewer.user, live_server.url)
    page.get_by_role("button", name="Return").click()
    expect(page.get_by_text("That was the last one")).to_be_visible()
    assert Review.objects.get().comment == "Say how much."
    assert page.evaluate("Object.keys(localStorage)") == []


def test_a_comment_stays_where_another_verdict_came_first(open_as, project, annotator, reviewer):
    label = make_demonstration(annotator)
    page = open_as(reviewer.user, f"/projects/{project.slug}/reviews/demonstration/{label.pk}/")
    reviews.record(label, reviewer=make_member(project, role=Role.REVIEWER), verdict=Verdict.RETURN, comment="Why?")
    page.get_by_label("Comment for the author").fill("Clear and short.")
    page.get_by_role("button", name="Accept").click()
    expect(page.get_by_text("It has been reviewed in the meantime.")).to_be_visible()
    expect(page.get_by_text("Why?")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Comment for the author")).to_have_value("Clear and short.")
    page.get_by_role("button", name="Accept").click()
    expect(page.get_by_text("That was the last one")).to_be_visible()
    assert [review.verdict for review in label.reviews.order_by("pk")] == ["return", "accept"]


def test_guidelines_survive_a_reload_and_never_replace_what_was_not_seen(open_as, project, admin):
    page = open_as(admin.user, f"/projects/{project.slug}/settings/guidelines/")
    text = page.get_by_role("textbox", name="Guidelines")
    text.fill("Be kind.")
    projects.edit_guidelines(project, text="Be brief.", before="", actor=admin.user)
    page.reload()
    expect(text).to_have_value("Be kind.")
    page.get_by_role("button", name="Save guidelines").click()
    expect(page.get_by_text("Someone else saved the guidelines")).to_be_visible()
    expect(page.get_by_text("Be brief.")).to_be_visible()
    expect(text).to_have_value("Be kind.")
    page.get_by_role("button", name="Save guidelines").click()
    expect(page.get_by_text("Everyone now sees the new guidelines.")).to_be_visible()
    expect(page.get_by_role("article")).to_have_text("Be kind.")
    assert page.evaluate("Object.keys(localStorage)") == []


def test_a_dialog_closes_only_where_the_mouse_was_pressed_and_let_go_beside_it(open_as, project, admin):
    page = open_as(admin.user, f"/projects/{project.slug}/")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog")
    box = dialog.bounding_box()
    inside, beside = (box["x"] + 3, box["y"] + 3), (box["x"] - 50, box["y"] + 50)
    for start, end in [(inside, inside), (inside, beside), (beside, inside)]:
        page.mouse.move(*start)
        page.mouse.down()
        page.mouse.move(*end)
        page.mouse.up()
        expect(dialog).to_be_visible()
    page.mouse.click(*beside)
    expect(dialog).to_be_hidden()


def test_a_notice_of_trouble_can_be_used_while_a_dialog_is_open(open_as, project, annotator):
    make_prompt(project)
    page = open_as(annotator.user, f"/projects/{project.slug}/write/")
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    Session.objects.all().delete()
    page.get_by_label("The prompt does not make sense").check()
    page.get_by_role("dialog").get_by_role("button", name="Skip").click()
    trouble = page.get_by_role("alert")
    expect(trouble).to_contain_text("You are signed out.")
    trouble.get_by_role("button", name="Close").click()
    expect(trouble).to_be_hidden()
    page.evaluate("tellTrouble('offline')")
    page.get_by_role("button", name="Keep working").click()
    trouble.get_by_role("button", name="Close").click()
    expect(trouble).to_be_hidden()


def test_a_token_can_be_copied(open_as, window):
    window.grant_permissions(["clipboard-read", "clipboard-write"])
    page = open_as(make_user(), "/account/")
    page.locator("#tokens summary").click()
    page.locator("#tokens").get_by_label("Name").fill("import")
    page.get_by_role("button", name="Create token").click()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == page.get_by_label("Token").input_value()


def test_rankings_are_downloaded_from_the_page(open_as, project, admin, annotator):
    ranking = make_ranking(annotator)
    page = open_as(admin.user, f"/projects/{project.slug}/")
    page.get_by_role("link", name="Export labels").click()
    page.get_by_label("Labels", exact=True).select_option("Labels used for training")
    page.get_by_role("button", name="Show").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Rankings as JSON Lines").click()
    assert download.value.suggested_filename == f"{project.slug}-rankings-trainable.jsonl"
    (line,) = download.value.path().read_text().splitlines()
    assert json.loads(line)["ranking_id"] == ranking.pk


PAGES = [
    "/account/",
    "/account/password/set/",
    "/projects/",
    "/projects/new/",
    "/projects/{slug}/",
    "/projects/{slug}/settings/",
    "/projects/{slug}/settings/guidelines/",
    "/projects/{slug}/settings/audit/",
    "/projects/{slug}/export/",
    "/projects/{slug}/members/",
    "/projects/{slug}/prompts/",
    "/projects/{slug}/prompts/add/",
    "/projects/{slug}/reviews/",
    "/projects/{slug}/reviews/ranking/{ranking}/",
    "/projects/{slug}/escalations/",
]


@pytest.mark.parametrize(("width", "colours"), [(360, "dark"), (1280, "light")])
def test_every_page_fits_its_window_and_can_be_read_by_everybody(open_as, project, admin, annotator, width, colours):
    User.objects.filter(pk=annotator.user_id).update(name="Åsa Öberg-Lindqvist von der Weidenau zu Schwarzenberg")
    make_prompt(project, "w" * 500)
    ranking = make_ranking(annotator, [1, 2, None, 2])
    page = open_as(admin.user, "/")
    User.objects.filter(pk=admin.user_id).update(is_superuser=True)
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=colours)
    faults = {}
    for pattern in PAGES:
        address = pattern.format(slug=project.slug, ranking=ranking.pk)
        page.goto(address)
        found = [fault["id"] for fault in Axe().run(page).response["violations"]]
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append("wider than the window")
        if found:
            faults[address] = found
    assert faults == {}
