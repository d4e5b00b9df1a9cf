"""What stands before the button: what blocks, what warns, what is good to know, each with its number."""

from __future__ import annotations

import shutil
from datetime import timedelta

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import time_format
from django.utils.timezone import localtime

from annotate.models import Demonstration, Member, Project, Prompt
from tests.rlhf import templates
from tests.training import machine
from training import examiner
from training.models import Examination, ModelVersion, Round, Run, TrainingSettings, Worker
from training.services.machines import workers
from training.services.planning import examination_words, examinations, plans, preflight
from training.services.planning.preflight import Preflight
from training.services.running import rounds
from training.stages.remedies import Remedy


@pytest.fixture
def ready(project: Project, annotator: Member, base: ModelVersion) -> Project:
    machine.write_demonstrations(annotator, 3)
    return project


def check(project: Project) -> Preflight:
    return preflight.check(project, plans.draft(project), preflight.gather(project))


def lines(project: Project, level: str) -> list[str]:
    return [line.text for line in check(project).lines if line.level == level]


def examined(project: Project) -> Examination:
    """The examination that the page asks for, done by a worker."""
    check(project)
    examination = Examination.objects.get(project=project)
    examiner.examine(examination.pk)
    examination.refresh_from_db()
    return examination


def refused(project: Project) -> str:
    with pytest.raises(rounds.NotReady) as refusal:
        rounds.open(project, opened_by=None)
    assert not Round.objects.exists()
    return str(refusal.value)


def test_nothing_blocks_a_project_that_is_ready(ready: Project) -> None:
    assert lines(ready, "block") == []
    notes = " ".join(lines(ready, "note"))
    assert "Disk: up to" in notes
    assert "not every gpu-worker has reported how much it has" in notes
    assert "Time: unknown" in notes


def test_too_few_labels_block_with_the_number_that_is_missing(project: Project, base: ModelVersion) -> None:
    assert lines(project, "block") == ["2 more answers before round 1 can train"]
    assert not any("not be evaluated" in line for line in lines(project, "warn")), "what blocks says why"


def test_too_few_rankings_block_with_the_number_that_is_missing(ready: Project, annotator: Member) -> None:
    now = timezone.now()
    plan = plans.draft(ready).to_json()
    Round.objects.create(project=ready, number=1, plan=plan, status=Round.Status.SUCCEEDED, finished_at=now)
    TrainingSettings.objects.update(demonstrations_minimum=9)
    machine.rank_new_slates(annotator, 1)
    assert lines(ready, "block") == ["2 more rankings before round 2 can train"]


def test_a_disk_that_is_too_small_blocks_the_page_and_the_start(ready: Project, base: ModelVersion) -> None:
    size = shutil.disk_usage(settings.DATA_DIR).total
    ModelVersion.objects.update(manifest={"files": {"model.safetensors": {"size": size, "sha256": ""}}})
    assert lines(ready, "block")[0].startswith("Not enough disk space: up to")
    assert "Not enough disk space" in refused(ready)


def test_the_memory_that_is_there_is_that_of_the_worker_that_has_least(ready: Project) -> None:
    for name, memory in (("gpu@here", 80 << 30), ("gpu@there", 4 << 30)):
        workers.beat(name, queue="gpu", host=name, device="1 × NVIDIA T4", pid=1, memory=memory)
    assert any(line.startswith("Memory: at most") and "4.0\xa0GB free" in line for line in lines(ready, "note"))
    Worker.objects.update(memory=1 << 20)
    few = lines(ready, "warn")
    assert any(line.startswith("Memory may not be enough") and "1.0\xa0MB free" in line for line in few)
    Worker.objects.filter(name="gpu@there").update(memory=None)
    assert any("not every gpu-worker has reported how much it has" in line for line in lines(ready, "note"))


def test_settings_that_the_engine_refuses_block(ready: Project) -> None:
    TrainingSettings.objects.update(overrides={"sft": {"epoch": 3}})
    assert lines(ready, "block") == ["A stage has settings that are not valid: unknown field 'epoch'."]
    assert "unknown field" in refused(ready)


def test_an_empty_answer_blocks_once_a_worker_has_looked(ready: Project) -> None:
    empty = Demonstration.objects.first()
    assert empty is not None
    Demonstration.objects.filter(pk=empty.pk).update(text=" ")
    assert examined(ready).status == "done"
    assert "1 answer is empty" in lines(ready, "block")[0]
    assert f"(answer {empty.pk})" in refused(ready)
    (line,) = check(ready).blocks
    assert [record.url for record in line.records] == [
        reverse("annotate:review", args=[ready.slug, "demonstration", empty.pk])
    ]


def test_a_template_that_does_not_fit_blocks_once_a_worker_has_looked(ready: Project, base: ModelVersion) -> None:
    (base.directory / "chat_template.jinja").write_text("{{ messages | length }}")
    assert examined(ready).status == "done"
    assert lines(ready, "block")[0].startswith("The model's chat template cannot be used.")
    assert "does not place an answer directly after its prompt" in lines(ready, "block")[0]
    assert "chat template" in refused(ready)


def test_characters_that_the_tokenizer_does_not_know_are_a_warning_that_names_them(ready: Project) -> None:
    examination = examined(ready)
    answer = Demonstration.objects.first()
    assert answer is not None
    numbers = {"stages": ["sft"], "what": "demonstrations", "count": 2, "of": 9, "ids": [str(answer.pk)]}
    found = {"level": "warn", "kind": "lost_text", "numbers": numbers | {"pieces": ["☂", "naïve"]}}
    Examination.objects.filter(pk=examination.pk).update(findings=[found])
    (line,) = [line for line in check(ready).lines if "does not know" in line.text]
    assert line.text.startswith(
        "SFT: 2 of 9 texts have characters that the model's tokenizer does not know (“☂”, “naïve”)."
    )
    assert [record.label for record in line.records] == [f"prompt {answer.prompt_id}"]


def test_a_mask_that_loses_the_end_to_the_padding_has_its_own_line(ready: Project) -> None:
    examination = examined(ready)
    lost = {"level": "block", "kind": "end_not_trained", "numbers": {"token": "</s>", "lost": 3, "of": 3}}
    Examination.objects.filter(pk=examination.pk).update(findings=[lost])
    assert "masked with the padding in 3 of 3 answers" in lines(ready, "block")[0]
    assert "never learn to stop" in refused(ready)


@pytest.mark.parametrize(("cut", "words"), [(1, "1 of 150 answers is longer"), (2, "2 of 150 answers are longer")])
def test_answers_that_are_cut_are_counted_in_good_english(cut: int, words: str) -> None:
    assert examination_words.sentence("cut", {"cut": cut, "of": 150}).startswith(words)


def test_labels_that_come_later_are_looked_at_again_but_not_every_second(ready: Project, annotator: Member) -> None:
    first = examined(ready)
    machine.write_demonstrations(annotator, 1)
    assert check(ready).examination == first
    Examination.objects.update(created_at=timezone.now() - timedelta(minutes=1))
    second = check(ready).examination
    assert second not in (None, first)
    assert second and second.status == "pending"


def test_the_button_waits_for_a_worker_that_is_looking_but_not_for_long(ready: Project) -> None:
    assert "The labels have not been checked: no worker has started the check." in lines(ready, "warn")
    assert lines(ready, "block") == []
    workers.beat("default@here", queue="default", host="here", device="", pid=1)
    about_to = "The label check is about to start. The round can start when it is done."
    assert lines(ready, "block") == [about_to]
    assert refused(ready) == about_to
    Examination.objects.update(created_at=timezone.now() - examinations.RECENT)
    assert lines(ready, "block") == []


def under_way(project: Project) -> Examination:
    """An examination that a worker has begun, long after it was asked for."""
    check(project)
    Examination.objects.update(created_at=timezone.now() - timedelta(minutes=3))
    taken = examinations.claim(Examination.objects.get().pk)
    assert taken is not None
    return taken


def test_the_button_waits_for_an_examination_as_long_as_a_worker_is_at_it(ready: Project) -> None:
    begun = under_way(ready)
    assert begun.started_at is not None
    since = time_format(localtime(begun.started_at), "TIME_FORMAT")
    said = f"A worker has been checking the labels since {since}. The round can start when it is done."
    assert lines(ready, "block") == [said], "the worker's own row may be late: it is busy"
    assert refused(ready) == said
    assert not any("not been checked" in line for line in lines(ready, "warn"))


def test_an_examination_under_way_is_not_requested_again_nor_begun_twice(ready: Project) -> None:
    begun = under_way(ready)
    Examination.objects.update(rung_at=timezone.now() - timedelta(minutes=2))
    check(ready)
    assert Examination.objects.get().rung_at < timezone.now() - timedelta(minutes=1)
    assert examinations.claim(begun.pk) is None


def test_an_examination_whose_worker_died_is_requested_again_and_taken_by_another(ready: Project) -> None:
    begun = under_way(ready)
    long_ago = timezone.now() - timedelta(minutes=2)
    Examination.objects.update(alive_at=long_ago, started_at=long_ago, rung_at=long_ago)
    assert "The labels have not been checked: no worker has started the check." in lines(ready, "warn")
    assert lines(ready, "block") == []
    rung_at = Examination.objects.get().rung_at
    assert rung_at is not None
    assert rung_at > long_ago
    assert examinations.claim(begun.pk) is not None


def test_an_examination_says_that_it_is_under_way_as_long_as_the_engine_works(
    ready: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examiner, "HEARTBEAT_S", 0.05)
    begun = examined(ready)
    assert begun.status == "done"
    assert begun.started_at is not None
    assert begun.alive_at is not None
    assert begun.alive_at - begun.started_at > timedelta(seconds=0.5), "it imports torch for longer"


def test_an_examination_that_takes_too_long_is_ended_and_says_so(
    ready: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examiner, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(examiner, "LONGEST_S", 0.1)
    assert examined(ready).status == "failed"
    assert "The labels could not be checked: the check timed out." in lines(ready, "warn")
    assert lines(ready, "block") == []


def test_an_examination_that_waits_behind_another_of_the_project_is_not_given_up(
    ready: Project, annotator: Member
) -> None:
    workers.beat("default@here", queue="default", host="here", device="", pid=1)
    first = under_way(ready)
    machine.write_demonstrations(annotator, 1)
    check(ready)
    second = Examination.objects.exclude(pk=first.pk).get()
    Examination.objects.filter(pk=second.pk).update(created_at=timezone.now() - timedelta(minutes=2))
    assert "A worker has been checking the labels since" in lines(ready, "block")[0], (
        "the first one, which is under way"
    )
    examinations.finish(first, status="done", findings=[], examples={})
    assert "The label check is about to start" in lines(ready, "block")[0]


def test_what_the_template_refuses_is_counted_and_linked_and_does_not_keep_the_round_from_starting(
    client: Client, ready: Project, annotator: Member, admin: Member, base: ModelVersion
) -> None:
    (base.directory / "chat_template.jinja").write_text(templates.WITHOUT_SYSTEM)
    machine.write_demonstrations(annotator, 20)
    odd = Demonstration.objects.order_by("pk")[1].prompt
    Prompt.objects.filter(pk=odd.pk).update(messages=[{"role": "system", "content": "Be brief."}, *odd.messages])
    assert examined(ready).status == "done"
    assert lines(ready, "block") == []
    sft, sampling = [line.text for line in check(ready).lines if "refused by the model's chat template" in line.text]
    assert sft == "SFT: 1 of 23 texts is refused by the model's chat template (“no system turn here”) and is left out."
    assert sampling.startswith("sampling: 1 of ")
    client.force_login(admin.user)
    shown = client.get(reverse("training:rounds", args=[ready.slug])).content.decode()
    page = f"{reverse('annotate:prompts', args=[ready.slug])}?q=%23{odd.pk}"
    assert f'href="{page}">prompt {odd.pk}</a>' in shown
    assert "disabled" not in shown.split('id="start-round"')[1].split(">")[0]
    assert rounds.open(ready, opened_by=None).pk


def test_what_an_examination_found_binds_while_the_next_one_is_under_way(ready: Project, annotator: Member) -> None:
    workers.beat("default@here", queue="default", host="here", device="", pid=1)
    lost = {"level": "block", "kind": "end_not_trained", "numbers": {"token": "</s>", "lost": 3, "of": 3}}
    check(ready)
    Examination.objects.update(status="done", findings=[lost])
    machine.write_demonstrations(annotator, 1)
    Examination.objects.update(created_at=timezone.now() - examinations.PAUSE)
    check(ready)
    assert sorted(Examination.objects.values_list("status", flat=True)) == ["done", "pending"]
    assert "never learn to stop" in refused(ready)


def test_what_another_model_was_found_to_lack_binds_nobody(ready: Project) -> None:
    lost = {"level": "block", "kind": "end_not_trained", "numbers": {"token": "</s>", "lost": 3, "of": 3}}
    check(ready)
    Examination.objects.update(status="done", findings=[lost])
    ModelVersion.objects.update(manifest_sha256="1" * 64)
    assert lines(ready, "block") == []


def test_an_examination_that_failed_is_repeated_after_a_minute(ready: Project) -> None:
    check(ready)
    Examination.objects.update(status="failed", error="Killed.")
    check(ready)
    assert Examination.objects.get().status == "failed"
    Examination.objects.update(rung_at=timezone.now() - examinations.RETRY_AFTER)
    check(ready)
    taken = examinations.claim(Examination.objects.get().pk)
    assert taken is not None
    assert taken.error == ""


def test_a_message_that_was_lost_is_sent_again_and_a_doubled_one_does_nothing(ready: Project) -> None:
    examination = examined(ready)
    examiner.examine(examination.pk)
    Examination.objects.update(status="pending", started_at=None, rung_at=timezone.now() - timedelta(minutes=1))
    check(ready)
    again = Examination.objects.get().rung_at
    assert again is not None
    assert again > timezone.now() - timedelta(seconds=30)


def test_an_engine_that_cannot_examine_warns_and_leaves_nothing_behind(ready: Project, base: ModelVersion) -> None:
    (base.directory / "tokenizer.json").write_text("{")
    (base.directory / "config.json").unlink()
    examination = examined(ready)
    assert examination.status in ("done", "failed")
    assert list((settings.DATA_DIR / "examinations").iterdir()) == []
    assert lines(ready, "block") or lines(ready, "warn")


def test_the_line_about_the_worker_names_nobody_elses_project(ready: Project) -> None:
    assert any("No gpu-worker is running" in line for line in lines(ready, "warn"))
    workers.beat("gpu@here", queue="gpu", host="here", device="2 CPU cores", pid=1)
    assert "A gpu-worker is free: 2 CPU cores." in lines(ready, "note")
    other = Project.objects.create(name="Secret plans", slug="secret")
    Worker.objects.update(run=machine.queue_run(other, status=Run.Status.RUNNING))
    said = [line for line in lines(ready, "warn") if "gpu-worker" in line]
    assert said == ["The gpu-worker is running another project. This round would wait in the queue."]


def test_the_page_shows_the_lines_their_remedies_and_the_examples(
    client: Client, ready: Project, admin: Member
) -> None:
    client.force_login(admin.user)
    address = reverse("training:rounds", args=[ready.slug])
    assert "The labels have not been checked yet." in client.get(address).content.decode()
    workers.beat("default@here", queue="default", host="here", device="", pid=1)
    waiting = client.get(address).content.decode()
    assert "The label check is about to start" in waiting
    assert "The round can be started when the label check is done." in waiting, "there is nothing to fix"
    TrainingSettings.objects.update(overrides={"sft": {"max_response": 64}})
    Examination.objects.all().delete()
    examined(ready)
    shown = client.get(address).content.decode()
    assert '<span class="piece is-trained">Behind house 0.</span><span class="piece is-end">&lt;/s&gt;</span>' in shown
    assert "The round will not be evaluated" in shown
    assert 'id="mend-prompts-' in shown
    assert 'id="mend-settings-' not in shown, "a note has nothing to mend"
    assert reverse("annotate:prompts", args=[ready.slug]) in shown


def test_every_line_says_where_it_is_fixed(project: Project, annotator: Member, base: ModelVersion) -> None:
    found = [*check(project).lines]
    machine.write_demonstrations(annotator, 3)
    found += check(project).lines
    workers.beat("gpu@here", queue="gpu", host="elsewhere", device="2 CPU cores", pid=1)
    found += check(project).lines
    base.delete()
    found += check(project).lines
    assert {line.remedy for line in found} <= set(Remedy)
    assert examination_words.REMEDIES.keys() == examination_words.SENTENCES.keys()


@pytest.mark.parametrize("remedy", Remedy)
def test_every_remedy_has_words_and_leads_to_a_page_that_is_there(
    client: Client, project: Project, admin: Member, remedy: Remedy
) -> None:
    assert str(remedy.words)
    if remedy.url(project.slug).startswith("/"):
        client.force_login(admin.user)
        assert client.get(remedy.url(project.slug)).status_code == 200
    elif remedy.address:
        templates = [path.read_text("utf-8") for path in (settings.BASE_DIR / "templates/training").rglob("*.html")]
        assert any(f'id="{remedy.address.removeprefix("#")}"' in text for text in templates)


def test_a_full_disk_names_the_command_that_frees_room(client: Client, ready: Project, admin: Member) -> None:
    size = shutil.disk_usage(settings.DATA_DIR).total
    ModelVersion.objects.update(manifest={"files": {"model.safetensors": {"size": size, "sha256": ""}}})
    client.force_login(admin.user)
    shown = client.get(reverse("training:rounds", args=[ready.slug])).content.decode()
    line = shown.split("Not enough disk space")[1].split("</li>")[0]
    assert "manage.py prune" in line
    assert "<a" not in line, "no page deletes weights"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"status": "failed", "error": "Killed."}, "the label check failed"),
        ({"status": "done", "findings": [], "examples": {}}, "prevents reading them"),
    ],
)
def test_where_there_are_no_examples_the_page_says_why(
    client: Client, ready: Project, admin: Member, fields: dict[str, object], said: str
) -> None:
    check(ready)
    Examination.objects.update(**fields)
    client.force_login(admin.user)
    assert said in client.get(reverse("training:rounds", args=[ready.slug])).content.decode()
