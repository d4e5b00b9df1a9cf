"""Where one side of the split is empty, the pages about prompts say what that keeps from happening, and what helps."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Project, Prompt, Split
from tests.factories import make_member, make_project, make_prompt

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def words(client: Client, project: Project) -> list[str]:
    """What the page of `project` and the one of its prompts say of the split."""
    client.force_login(make_member(project, role="admin").user)
    pages = [client.get(reverse(f"annotate:{name}", args=[project.slug])) for name in ("project", "prompts")]
    said = [pages[0].context["overview"].split_warning, pages[1].context["split_warning"]]
    assert all(word in page.content.decode() for word, page in zip(said, pages, strict=True))
    return said


def fill(project: Project, *, train: int, heldout: int) -> Project:
    for number in range(train + heldout):
        prompt = make_prompt(project)
        split = Split.TRAIN if number < train else Split.HELDOUT
        Prompt.objects.filter(pk=prompt.pk).update(split=split)
    return project


def test_eight_prompts_of_which_none_is_held_out_measure_nothing(client: Client) -> None:
    project = fill(make_project(heldout_share=0.1), train=8, heldout=0)
    for said in words(client, project):
        assert said.startswith("Models cannot be evaluated: none of the 8 prompts is held out. Add more")
        assert "10%" in said
        assert "about 30" in said


def test_prompts_that_are_all_held_out_train_nothing(client: Client) -> None:
    project = fill(make_project(heldout_share=0.1), train=0, heldout=3)
    for said in words(client, project):
        assert said.startswith("Nothing can be written or trained: all 3 prompts are held out.")


def test_one_prompt_is_not_called_prompts(client: Client) -> None:
    for train, heldout, beginning in (
        (1, 0, "Models cannot be evaluated: the only prompt is not held out."),
        (0, 1, "Nothing can be written or trained: the only prompt is held out."),
    ):
        for said in words(client, fill(make_project(heldout_share=0.1), train=train, heldout=heldout)):
            assert said.startswith(beginning)


def test_a_project_that_holds_out_nothing_says_what_that_costs(client: Client) -> None:
    project = fill(make_project(heldout_share=0.0), train=2, heldout=0)
    for said in words(client, project):
        assert "has no held-out prompts" in said


def test_nothing_is_said_where_nothing_is_wrong(client: Client) -> None:
    assert words(client, fill(make_project(heldout_share=0.1), train=2, heldout=1)) == ["", ""]
    assert words(client, make_project(heldout_share=0.1)) == ["", ""]
