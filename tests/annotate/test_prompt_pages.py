"""Prompts in the browser: paste, file, search, withdraw. What makes a good line is tested with the service."""

from __future__ import annotations

import json
import re
from html import unescape
from uuid import uuid4

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from annotate.models import Prompt, WorkItem
from annotate.services import demonstrations, prompts
from annotate.views import prompts as prompt_pages
from tests.factories import make_demonstration, make_project, make_prompt, make_ranking

pytestmark = pytest.mark.django_db


@pytest.fixture
def address(client, project, admin):
    client.force_login(admin.user)
    return lambda name, *args: reverse(f"annotate:{name}", args=[project.slug, *args])


def upload(client, address, *lines):
    file = SimpleUploadedFile("prompts.jsonl", "\n".join(lines).encode())
    return client.post(address("add-prompts"), {"file": file})


def test_each_pasted_line_becomes_a_prompt(client, project, address):
    page = client.post(address("add-prompts"), {"paste": "How do I boil an egg?\r\n\r\nWhy is the sky blue?\r\n"})
    assert page.context["imported"].created == 2
    assert {prompt.question for prompt in project.prompts.all()} == {"How do I boil an egg?", "Why is the sky blue?"}


def test_what_an_admin_pastes_is_split_prompt_by_prompt(client, project, address):
    client.post(address("add-prompts"), {"paste": "\n".join(f"Question {number}?" for number in range(20))})
    assert project.prompts.values("group").distinct().count() == 20


def test_bad_lines_of_a_file_are_named_by_number_and_the_good_ones_kept(client, project, address):
    page = upload(client, address, '{"text": "Why?"}', "not JSON", "", '{"text": ""}', '{"text": "How?"}')
    imported = page.context["imported"]
    assert (imported.created, [bad["line"] for bad in imported.rejected]) == (2, [2, 4])
    assert "2 lines were rejected" in page.content.decode()


def test_a_file_of_bad_lines_only_is_not_said_to_be_in(client, address):
    page = upload(client, address, "{name,group}", "Ada,one").content.decode()
    assert "Nothing was added" in page
    assert "The others were added" not in page


def test_a_table_or_plain_text_in_a_file_is_refused_once_and_told_where_it_can_be_pasted(client, project, address):
    for line in ("id,text", '"id","text"', "How do I boil an egg?"):
        page = upload(client, address, line, *(f"{number},Why?" for number in range(200)))
        assert page.status_code == 422
        [said] = page.context["form"].errors["file"]
        assert 'Write each prompt on its own line as {"text": "…"}.' in said
        assert "Plain text can be pasted above" in said
    assert not project.prompts.exists()


@pytest.mark.parametrize("empty", ["[]", " [ ]\n"])
def test_an_empty_list_is_said_to_be_empty(client, project, address, empty):
    for page in (upload(client, address, empty), client.post(address("add-prompts"), {"paste": empty})):
        assert "The list is empty." in page.content.decode()
    assert not project.prompts.exists()


@pytest.mark.parametrize(
    "paste", ['{"prompt": "Why?"}', '[{"prompt": "Why?"}]', '{"question": "Why?"}\n{"question": "How?"}']
)
def test_pasted_records_with_a_wrong_key_are_no_questions(client, project, address, paste):
    page = client.post(address("add-prompts"), {"paste": paste})
    assert "Found only" in page.content.decode()
    assert not project.prompts.exists()


def test_the_same_file_again_adds_nothing(client, project, address):
    upload(client, address, '{"text": "Why?"}')
    page = upload(client, address, '{"text": "Why?"}')
    assert (page.context["imported"].created, page.context["imported"].existing) == (0, 1)
    assert project.prompts.count() == 1


def test_an_empty_form_says_what_is_missing(client, address):
    page = client.post(address("add-prompts"), {})
    assert page.status_code == 422
    assert "Paste prompts or choose a file." in page.content.decode()


@pytest.mark.database
@pytest.mark.parametrize("query", ["HEADACHE", "köpfchen", 'a "quoted" word', "faq-17", "家"])
def test_search_finds_words_ids_and_letters_of_any_script(client, project, address, query):
    make_prompt(project, "How do I treat my headache?")
    make_prompt(project, "Wie geht es dem köpfchen?")
    make_prompt(project, 'What is a "quoted" word?')
    make_prompt(project, "Something else", external_id="faq-17")
    make_prompt(project, "家はどこですか")
    assert len(client.get(address("prompts"), {"q": query}).context["page"].rows) == 1


@pytest.mark.database
@pytest.mark.parametrize(
    ("query", "found"), [("user", 0), ("role", 0), ("content", 0), ("HELLO", 1), ("how are you", 1)]
)
def test_search_reads_what_is_said_in_every_turn_and_nothing_else(client, project, address, query, found):
    turns = [("system", "Be brief."), ("user", "Hello"), ("assistant", "Hello!"), ("user", "How are you?")]
    record = {"messages": [{"role": role, "content": said} for role, said in turns]}
    prompts.add(project, prompts.records_from_list([record]))
    assert len(client.get(address("prompts"), {"q": query}).context["page"].rows) == found


@pytest.mark.database
@pytest.mark.parametrize("query", ["\0", "a\0b", "#" + "9" * 30, "#٣", "%"])
def test_a_search_for_what_cannot_be_there_finds_nothing(client, project, address, query):
    make_prompt(project, "Why?")
    page = client.get(address("prompts"), {"q": query})
    assert page.status_code == 200
    assert page.context["page"].rows == ([] if query.strip("\0") else [Prompt.objects.get()])


@pytest.mark.database
def test_search_finds_a_prompt_by_the_number_that_other_pages_name_it_by(client, project, address):
    first, second = make_prompt(project, "Why?"), make_prompt(project, "How?")
    for query, found in ((f"#{first.pk}", [first]), (f"#{second.pk}", [second]), ("#999999999999999999999", [])):
        assert list(client.get(address("prompts"), {"q": query}).context["page"].rows) == found


def test_the_list_goes_on_page_by_page(client, project, address, monkeypatch):
    monkeypatch.setattr(prompt_pages, "PAGE_SIZE", 2)
    for number in range(5):
        make_prompt(project, f"Question {number}?")
    seen, older = [], "?"
    while older:
        page = client.get(address("prompts") + older).context["page"]
        seen += [prompt.question for prompt in page]
        older = page.older
    assert seen == [f"Question {number}?" for number in (4, 3, 2, 1, 0)]


def test_a_withdrawn_prompt_leaves_list_and_queue(client, project, address):
    prompt = make_prompt(project)
    client.post(address("withdraw-prompt", prompt.pk))
    assert not client.get(address("prompts")).context["page"]
    assert WorkItem.objects.get().status == WorkItem.Status.WITHDRAWN
    assert Prompt.objects.get().withdrawn_at


def test_the_question_before_withdrawing_says_what_becomes_of_the_labels(client, project, address, annotator):
    make_prompt(project)
    assert "This cannot be undone." in client.get(address("prompts")).content.decode()
    assert "Exports keep" not in client.get(address("prompts")).content.decode()
    label = make_demonstration(annotator)
    demonstrations.correct(label, annotator=annotator, submission_id=uuid4(), text="Rest.")
    make_ranking(annotator)
    page = " ".join(client.get(address("prompts")).content.decode().split())
    for labels in ("1 answer", "1 ranking"):
        assert f"Exports keep its labels, marked as withdrawn: {labels}. Later rounds do not use them" in page


def test_the_list_is_the_same_one_after_withdrawing(client, project, address, monkeypatch):
    monkeypatch.setattr(prompt_pages, "PAGE_SIZE", 1)
    older, newer = make_prompt(project, "Why & how?"), make_prompt(project, "Why & how, really?")
    shown = client.get(address("prompts"), {"q": "why & how", "split": "train", "before": newer.pk})
    [action] = re.findall(r'action="([^"]*/withdraw/[^"]*)"', shown.content.decode())
    answer = client.post(unescape(action))
    assert answer.url == f"{address('prompts')}?q=why+%26+how&split=train&before={newer.pk}"
    older.refresh_from_db()
    assert older.withdrawn_at


def test_the_number_of_a_prompt_leads_to_all_its_turns(client, project, address):
    turns = [{"role": ("user", "assistant")[number % 2], "content": f"Turn {number}. " * 200} for number in range(25)]
    prompt, _report = prompts.add_one(project, {"messages": turns})
    page = client.get(address("prompts")).content.decode()
    assert f'href="{address("prompts")}?like={prompt.pk}"' in page
    whole = client.get(address("prompts"), {"like": prompt.pk}).content.decode()
    assert all(turn["content"].strip() in whole for turn in turns)
    assert "The whole prompt." in whole


def test_a_prompt_of_another_project_cannot_be_withdrawn(client, address):
    foreign = make_prompt(make_project())
    assert client.post(address("withdraw-prompt", foreign.pk)).status_code == 404


def test_markup_in_a_prompt_stays_text(client, project, address):
    make_prompt(project, "<script>alert(1)</script>")
    assert "<script>alert" not in client.get(address("prompts")).content.decode()


def test_a_large_file_is_imported_with_few_statements(client, project, address, django_assert_max_num_queries):
    lines = [json.dumps({"text": f"Question {number}?"}) for number in range(2000)]
    with django_assert_max_num_queries(100):
        assert upload(client, address, *lines).context["imported"].created == 2000
