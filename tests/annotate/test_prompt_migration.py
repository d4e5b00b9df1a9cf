"""Prompts that were stored when a text was the same as another that differed in case or spacing only."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.migrations.exceptions import IrreversibleError
from django.db.migrations.executor import MigrationExecutor

from annotate.models import Project, Prompt
from annotate.services import prompts
from annotate.services.text import folded_hash, text_hash

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]
BEFORE, AFTER = ("annotate", "0001_initial"), ("annotate", "0002_exact_text_hash")


@pytest.fixture
def migrate():
    """Goes to a migration and returns the models as they were there; at the end to the newest one."""

    def go(target):
        executor = MigrationExecutor(connection)
        executor.migrate([target])
        return MigrationExecutor(connection).loader.project_state([target]).apps

    yield go
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_stored_prompts_keep_text_group_and_split_and_get_the_hash_of_their_exact_text(migrate):
    apps = migrate(BEFORE)
    project = apps.get_model("annotate", "Project").objects.create(name="One", slug="one", heldout_share=0.5)
    # The first is folded already: its exact hash is the folded one that it had.
    texts = ["why?", "Is 'March' a verb?", "a\n  b", "Straße", *(f"Question {n}?" for n in range(1100))]
    stored = apps.get_model("annotate", "Prompt").objects.bulk_create(
        apps.get_model("annotate", "Prompt")(
            project=project,
            messages=asked(text),
            text_hash=folded_hash(asked(text)),
            group="wiki" if n % 2 else folded_hash(asked(text)),
            split=("train", "heldout")[n % 3 == 0],
            external_id=f"id-{n}",
        )
        for n, text in enumerate(texts)
    )
    before = [(row.pk, row.messages, row.group, row.split, row.external_id) for row in stored]
    migrate(AFTER)
    after = list(Prompt.objects.order_by("pk"))
    assert [(row.pk, row.messages, row.group, row.split, row.external_id) for row in after] == before
    assert all(row.text_hash == text_hash(row.messages) for row in after)
    assert all(row.folded_hash == folded_hash(row.messages) for row in after)


def test_after_the_change_a_near_duplicate_of_a_stored_prompt_comes_in_beside_it(migrate):
    apps = migrate(BEFORE)
    project = apps.get_model("annotate", "Project").objects.create(name="One", slug="one", heldout_share=0.5)
    old = {"project": project, "messages": asked("WHY?"), "text_hash": folded_hash(asked("WHY?"))}
    apps.get_model("annotate", "Prompt").objects.create(**old, group=old["text_hash"], split="heldout")
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())  # what the services work on
    report = prompts.add(Project.objects.get(), prompts.records_from_list([{"text": "WHY?"}, {"text": "why?"}]))
    assert (report.created, report.existing, report.near_duplicate_count) == (1, 1, 1)
    assert set(Prompt.objects.values_list("split", flat=True)) == {"heldout"}
    with pytest.raises(IrreversibleError, match="differ in case or spacing only"):
        migrate(BEFORE)
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())  # on its way, it has taken back some of training
    Prompt.objects.filter(messages=asked("why?")).delete()
