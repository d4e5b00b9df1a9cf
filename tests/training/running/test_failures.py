"""Why a run failed: looked up by kind in one table. Every kind that anybody gives is in it, and nothing else is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Demonstration, Member, Project
from tests.training import engine_files, machine
from training import stages
from training.models import Answer, Question, Run
from training.rlhf import exits
from training.rlhf.data import dataset_filter
from training.services.planning.failure_rules import MODEL_RULES, UNKNOWN
from training.services.planning.failure_rules import RULES as GENERAL_RULES
from training.services.running import failures
from training.stages import Stage

ROOT = Path(__file__).parents[3]
ENGINE = sorted((ROOT / "training/rlhf").glob("**/*.py"))
PLATFORM = [*sorted((ROOT / "training/services").glob("**/*.py")), *sorted((ROOT / "training").glob("*.py"))]
SUPERVISORS = ("runner.py", "examiner.py", "services/running/runs.py", "services/running/memory_kills.py")
RULES = {**GENERAL_RULES, **{kind: rule for stage in stages.DEFINITIONS for kind, rule in stage.failures.items()}}
ENDINGS = {cls.__name__: cls for cls in exits.EngineExit.__subclasses__()}
TELL_ALL = {"Interrupted", "FenceLost"}  # endings whose class says all that there is to say


def raised() -> Iterator[tuple[str, ast.Call]]:
    """Each place in the engine that ends a stage on purpose."""
    for path in ENGINE:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ENDINGS:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def kind_of(call: ast.Call) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == "kind"), None)


def constants(node: ast.AST, name: str) -> Iterator[str]:
    """What a dictionary or a keyword called `name` is given as text."""
    if isinstance(node, ast.keyword) and node.arg == name and isinstance(node.value, ast.Constant):
        yield node.value.value
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == name:
                yield from (one.value for one in ast.walk(value) if isinstance(one, ast.Constant))


def kinds_given() -> set[str]:
    """Every kind that engine or supervisor gives to an ending."""
    kinds = {cls.kind for cls in ENDINGS.values()} | set(failures.BY_CODE.values()) | {UNKNOWN}
    for _place, call in raised():
        value = kind_of(call)
        kinds |= {value.value} if isinstance(value, ast.Constant) else set()
    for path in SUPERVISORS:
        for node in ast.walk(ast.parse((ROOT / "training" / path).read_text("utf-8"))):
            kinds |= set(constants(node, "kind")) if isinstance(node, ast.Dict) else set()
    crashes = next(
        node
        for node in ast.walk(ast.parse((ROOT / "training/rlhf/endings.py").read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name == "kind_of_crash"
    )
    for node in ast.walk(crashes):
        if isinstance(node, ast.Return) and node.value:
            values = [node.value.body, node.value.orelse] if isinstance(node.value, ast.IfExp) else [node.value]
            kinds |= {str(one.value) for one in values if isinstance(one, ast.Constant)}
    return kinds | {"killed", "stopped", "killed_by_fault"}  # by signal, in a table of the runner


def test_every_place_that_refuses_gives_a_kind() -> None:
    places = list(raised())
    assert len(places) > 40
    for place, call in places:
        value = kind_of(call)
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        is_passed_on = (isinstance(value, ast.Attribute) and value.attr == "kind") or (
            isinstance(value, ast.Name) and value.id == "kind"
        )
        assert name in TELL_ALL or isinstance(value, ast.Constant) or is_passed_on, f"{place} has no kind"


def test_every_kind_has_its_line_and_every_line_its_kind() -> None:
    assert kinds_given() <= RULES.keys()
    assert RULES.keys() - MODEL_RULES.keys() <= kinds_given()


def test_refusals_of_one_record_are_kinds_that_are_given() -> None:
    assert kinds_given() >= dataset_filter.OF_ONE_RECORD


def test_nothing_in_the_product_reads_our_own_sentences() -> None:
    """What a caught error says goes on to people, or into a log, and is compared with nothing."""
    readers = ("startswith", "endswith", "search", "match", "findall", "fullmatch")
    for path in [*PLATFORM, *sorted((ROOT / "training/forms").glob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in readers:
                assert "error" not in ast.unparse(node), f"{path.name}:{node.lineno}"
            if isinstance(node, ast.Compare) and any(isinstance(one, ast.In | ast.NotIn) for one in node.ops):
                assert not ast.unparse(node.comparators[-1]).endswith((".error", "str(error)")), path.name


@pytest.mark.parametrize("kind", sorted(RULES))
def test_the_table_names_the_cause_and_where_it_is_fixed(project: Project, data_dir: Path, kind: str) -> None:
    ending = {"kind": kind, "sentence": "what the engine said"}
    cause = failures.cause_of(engine_files.make_run(project, status=Run.Status.FAILED, exit_code=1, ending=ending))
    assert (cause.name, cause.detail) == (kind, "what the engine said")
    assert str(cause.sentence).endswith(".")
    assert str(cause.advice).endswith(".")
    assert cause.remedy is None or cause.remedy.words


def test_an_unknown_kind_of_another_engine_version_is_shown_as_it_is(project: Project, data_dir: Path) -> None:
    ending = {"kind": "new_kind", "sentence": "the flux is low"}
    run = engine_files.make_run(project, status=Run.Status.FAILED, exit_code=77, ending=ending)
    assert (failures.cause_of(run).name, failures.cause_of(run).detail) == ("input", "the flux is low")
    run.exit_code = 1
    assert (failures.cause_of(run).name, failures.cause_of(run).headline) == ("unknown", "the flux is low")


@pytest.mark.parametrize(
    ("code", "name"),
    [(77, "input"), (78, "disk"), (79, "diverged"), (-9, "killed"), (-15, "stopped"), (-1, "silent"), (1, "unknown")],
)
def test_a_run_that_ended_before_endings_were_kept_shows_what_was_stored(
    project: Project, data_dir: Path, code: int, name: str
) -> None:
    fields = {"status": Run.Status.FAILED, "exit_code": code, "error": "the gradient was not finite\n\nlog"}
    cause = failures.cause_of(engine_files.make_run(project, **fields))
    assert (cause.name, cause.detail) == (name, "the gradient was not finite")


@pytest.mark.parametrize(("code", "gave_up"), [(1, True), (-9, True), (77, False), (79, False)])
def test_a_crash_fails_a_run_only_after_several_attempts(
    project: Project, data_dir: Path, code: int, gave_up: bool
) -> None:
    run = engine_files.make_run(project, status=Run.Status.FAILED, exit_code=code, error="No.")
    assert failures.cause_of(run).gave_up is gave_up


def left_out(project: Project, what: str, records: list[str], stage: str = Stage.SFT) -> Run:
    ending = {"kind": "left_out", "records": records, "numbers": {"what": what}, "sentence": "2 of 3 cannot be used"}
    return engine_files.make_run(project, stage, status=Run.Status.FAILED, exit_code=77, ending=ending)


def test_the_card_leads_to_the_prompts_of_the_records_that_are_refused(
    client: Client, project: Project, annotator: Member, admin: Member, data_dir: Path
) -> None:
    machine.write_demonstrations(annotator, 2)
    first, second = Demonstration.objects.order_by("pk")
    run = left_out(project, "demonstrations", [str(second.pk), "99999", "x"])
    client.force_login(admin.user)
    shown = client.get(reverse("training:run", args=[project.slug, run.pk])).content.decode()
    page = f"{reverse('annotate:prompts', args=[project.slug])}?q=%23{second.prompt_id}"
    assert f'href="{page}">prompt {second.prompt_id}</a>' in shown
    found = client.get(page).content.decode()
    assert reverse("annotate:withdraw-prompt", args=[project.slug, second.prompt_id]) in found
    assert reverse("annotate:withdraw-prompt", args=[project.slug, first.prompt_id]) not in found


def test_a_prompt_that_is_withdrawn_already_is_named_without_a_link(
    project: Project, annotator: Member, data_dir: Path
) -> None:
    (prompt,) = machine.make_prompts(project, 1)
    run = left_out(project, "prompts", [str(prompt.pk), "99999"])
    assert all(record.url for record in failures.cause_of(run).records[:1])
    prompt.withdrawn_at = prompt.created_at
    prompt.save()
    assert [(one.label, one.url) for one in failures.cause_of(run).records] == [
        (f"prompt {prompt.pk}", ""),
        ("prompt 99999", ""),
    ]


def test_what_a_question_asks_is_no_prompt_of_the_project(project: Project, admin: Member, data_dir: Path) -> None:
    (prompt,) = machine.make_prompts(project, 1)
    run = left_out(project, "prompts", [str(prompt.pk)], Stage.SAMPLING)
    question = Question.objects.create(project=project, asked_by=admin.user, text="Why?")
    Answer.objects.create(question=question, run=run, model_version=machine.make_model(project, "sft"))
    assert failures.cause_of(run).records == []


def test_the_card_names_the_setting_as_people_call_it(
    client: Client, project: Project, admin: Member, data_dir: Path
) -> None:
    ending = {"kind": "memory", "field": "batch_tokens", "sentence": "out of memory"}
    run = engine_files.make_run(project, status=Run.Status.FAILED, exit_code=77, ending=ending)
    client.force_login(admin.user)
    shown = client.get(reverse("training:run", args=[project.slug, run.pk])).content.decode()
    assert "There was not enough memory." in shown
    assert "Setting: “batch tokens”." in shown


@pytest.mark.parametrize("kind", ["logits_not_finite", "reward_not_finite", "selftest_not_finite"])
def test_numbers_of_a_model_that_is_only_read_are_not_put_down_to_learning(kind: str) -> None:
    rule = RULES[kind]
    assert "learning" not in str(rule.sentence) and "go back to the model before it" in str(rule.advice)
