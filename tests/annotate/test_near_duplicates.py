"""Texts that are almost the same: two prompts, on one side of the split, and listed for people to decide."""

from __future__ import annotations

from unicodedata import normalize

import pytest
from django.urls import reverse
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.models import Kind, Split, WorkItem
from annotate.services import prompts
from annotate.services.prompts import near_duplicates_of
from annotate.services.splits import split_of
from annotate.services.text import folded_hash
from tests.factories import make_project, make_prompt
from training.rlhf.data import leakage as engine

pytestmark = [pytest.mark.django_db, pytest.mark.database]
PAIRS = [(f"Say: HELLO {n}", f"Say:  hello {n}") for n in range(60)]


@pytest.fixture
def halved():
    return make_project(heldout_share=0.5)


def add(project, *bodies: object) -> prompts.Imported:
    return prompts.add(project, prompts.records_from_list(bodies))


def test_near_duplicates_stand_on_one_side_of_the_split_and_each_is_asked_about(halved):
    add(halved, *({"text": text} for pair in PAIRS for text in pair))
    by_text = {prompt.question: prompt for prompt in halved.prompts.all()}
    assert len(by_text) == 2 * len(PAIRS)
    assert all(by_text[one].split == by_text[other].split for one, other in PAIRS)
    assert {prompt.split for prompt in by_text.values()} == set(Split.values)
    written = WorkItem.objects.filter(kind=Kind.DEMONSTRATION).count()
    assert written == halved.prompts.filter(split=Split.TRAIN).count()


@pytest.mark.parametrize("together", [True, False])
def test_a_group_of_its_own_does_not_part_a_near_duplicate_from_the_held_out_one(halved, together):
    groups = {split_of(f"group {n}", 0.5): f"group {n}" for n in range(20)}
    held, trained = groups[Split.HELDOUT], groups[Split.TRAIN]
    first = {"text": "Is 'march' a verb?", "group": held}
    second = {"text": "Is 'March' a verb?", "group": trained}
    if together:
        report = add(halved, first, second)
    else:
        add(halved, first)
        report = add(halved, second)
    assert set(halved.prompts.values_list("group", "split")) == {(held, Split.HELDOUT), (trained, Split.HELDOUT)}
    note = report.near_duplicates[0]["note"]
    assert f"held out like that one, although its group “{trained}” is for training" in note
    assert add(halved, first, second).rejected == []


@pytest.mark.parametrize("text", ["is 'march' a verb?", "IS 'MARCH' A VERB?"])
def test_one_without_a_group_follows_the_one_with_a_group(halved, text):
    for n in range(10):
        add(halved, {"text": f"{n}: Is 'march' a verb?", "group": f"group {n}"}, {"text": f"{n}: {text}"})
    sides = halved.prompts.values_list("folded_hash", "split").distinct()
    assert sides.count() == 10
    assert {side for _folded, side in sides} == set(Split.values)


WRITTEN = st.text(st.sampled_from("aAßsSéÉe\u0301İiıI\u0307\u00a0\u2002\u2000 \t\nΣσςǅǆ가\u1100\u1161"), max_size=8)


@settings(max_examples=300, deadline=None)
@given(
    WRITTEN, st.sampled_from([str.swapcase, str.upper, str.casefold, lambda text: normalize("NFD", text), str.strip])
)
def test_what_the_engine_would_call_the_same_is_a_near_duplicate_here(text, change):
    one, other = ([{"role": "user", "content": said}] for said in (text, change(text)))
    if engine._folded(one) == engine._folded(other):
        assert folded_hash(one) == folded_hash(other)


def test_only_the_first_of_a_kind_is_named_and_withdrawn_ones_are_followed_too(halved, admin):
    first = make_prompt(halved, "One?", external_id="faq-1")
    prompts.withdraw(first, actor=admin.user)
    report = add(halved, {"text": "ONE?"}, {"text": "one?"})
    assert [row["like"] for row in report.near_duplicates] == [first.pk, first.pk]
    assert f"near-duplicate of prompt #{first.pk} (faq-1), “One?”" in report.near_duplicates[0]["note"]
    assert halved.prompts.values("split").distinct().count() == 1


def test_two_projects_know_nothing_of_each_others_near_duplicates(project):
    make_prompt(make_project(), "One?")
    assert add(project, {"text": "one?"}).near_duplicates == []


def test_the_others_of_a_kind_are_found_with_few_statements(project, django_assert_num_queries):
    one, two, three, alone = (make_prompt(project, text) for text in ("One?", "ONE?", "one?", "Two?"))
    with django_assert_num_queries(2):
        found = near_duplicates_of([one, two, three, alone])
    assert {pk: (near.one, near.number) for pk, near in found.items()} == {
        one.pk: (three, 2),
        two.pk: (one, 2),
        three.pk: (one, 2),
    }


def test_the_list_shows_near_duplicates_and_leads_from_each_to_the_others(client, project, admin):
    one, other, alone = (make_prompt(project, text) for text in ("Count the spaces:  a", "Count the spaces: a", "Two?"))
    client.force_login(admin.user)
    address = reverse("annotate:prompts", args=[project.slug])
    page = client.get(address, {"split": "near"})
    assert page.context["page"].rows == [other, one]
    assert page.content.decode().count("near-duplicate of prompt #") == 2, "once for each"
    assert ">near-duplicate<" not in page.content.decode()
    assert f'href="{address}?like={other.pk}"' in page.content.decode()
    assert client.get(address, {"like": other.pk}).context["page"].rows == [other, one]
    assert client.get(address, {"q": f"#{alone.pk}"}).context["page"].rows == [alone]
    prompts.withdraw(one, actor=admin.user)
    page = client.get(address, {"split": "near"})
    assert not page.context["page"]
    assert "This project has no near-duplicate prompts." in page.content.decode()
    assert "near-duplicate of" not in client.get(address).content.decode()


@pytest.mark.parametrize("like", ["0", "9" * 18, "x", "-1", "٣", "1e3", "9" * 40])
def test_a_number_that_is_no_prompt_here_leads_nowhere(client, project, admin, like):
    foreign = make_prompt(make_project())
    client.force_login(admin.user)
    address = reverse("annotate:prompts", args=[project.slug])
    assert client.get(address, {"like": like}).status_code == 404
    assert client.get(address, {"like": foreign.pk}).status_code == 404
