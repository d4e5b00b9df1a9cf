"""What the docs name is there: files, folders, functions, links. A page that points nowhere is worse than none."""

import ast
import os
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OF_THE_PAST = {"CHANGELOG.md", "test-durations.md"}  # what these name may be gone
PAGES = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")] if path.name not in OF_THE_PAST)
# `annotate/services/work.py`, `training/rlhf/`, `annotate/services/work.py:claim` or `tests/test_docs.py::test_…`
NAMED = re.compile(
    r"`((?:annotate|benchmarks|config|deploy|docs|static|templates|tests|training|\.ci)/[\w./-]*)(?:::?([\w.]+))?`"
)
IN_REMARKS = re.compile(r"(?<![\w/.-])(?:[\w-]+/)+[\w.-]+\.(?:py|md|html|css|js|toml|yml|conf)\b")
LINKED = re.compile(r"\]\(([^)#\s]+)?(?:#([\w-]+))?\)")


def defined(path: Path) -> set[str]:
    """The names that a module binds at its top, and the methods of its classes as Class.method."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def remarks(path: Path) -> Iterator[str]:
    """The comments and docstrings of a module."""
    with path.open("rb") as file:
        yield from (token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def anchors(page: Path) -> set[str]:
    """The headings of a page as the addresses that a repository's host gives them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_and_function_that_a_page_names_is_there(page: Path) -> None:
    named = NAMED.findall(page.read_text())
    assert [path for path, _symbol in named if not (ROOT / path).exists()] == []
    assert [f"{path}:{symbol}" for path, symbol in named if symbol and symbol not in defined(ROOT / path)] == []


@pytest.mark.parametrize("folder", ["annotate", "benchmarks", "config", "deploy", "docs", "tests", "training"])
def test_every_file_that_a_comment_or_a_docstring_names_is_there(folder: str) -> None:
    """From the root, or from a folder that the module is in."""
    for module in (ROOT / folder).rglob("*.py"):
        named = {path for remark in remarks(module) for path in IN_REMARKS.findall(remark)}
        missing = {path for path in named if not any((parent / path).exists() for parent in module.parents)}
        assert not missing, module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    for target, anchor in LINKED.findall(page.read_text()):
        if target.startswith(("http", "mailto:")):
            continue
        goal = (page.parent / target).resolve() if target else page
        assert goal.exists(), target
        assert not anchor or anchor in anchors(goal), f"{target}#{anchor}"


def test_each_of_thirty_questions_is_answered_by_at_most_two_files() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    table = page.partition("## Where is …?")[2].partition("\n## ")[0]
    rows = [row for row in table.splitlines() if row.startswith("| ") and "?" in row.split("|")[1]]
    assert len(rows) >= 30
    files = {row.split("|")[1].strip(): {path for path, _symbol in NAMED.findall(row)} for row in rows}
    assert {question: found for question, found in files.items() if not 1 <= len(found) <= 2} == {}


def test_each_of_fifty_details_of_the_method_names_the_test_that_proves_it_or_says_why_it_is_not_applied() -> None:
    page = (ROOT / "docs/correctness.md").read_text()
    introduction, *parts = re.split(r"^\*\*(\d+)\. ", page, flags=re.MULTILINE)
    entries = dict(zip(map(int, parts[::2]), parts[1::2], strict=True))
    assert list(entries) == list(range(1, 51))
    left_out = {number for number, entry in entries.items() if "\n- not applied: " in entry}
    assert {number for number, entry in entries.items() if "\n- test: `tests/" not in entry} <= left_out
    (listed,) = re.findall(r"\*\*Not applied[^*]*\*\* ([\d, ]+)\.", introduction)
    assert [int(number) for number in listed.split(", ")] == sorted(left_out)
    tests = [symbol for path, symbol in NAMED.findall(page) if path.startswith("tests/rlhf/") and symbol]
    assert all(name.startswith("test_") for name in tests)


# Answers as the API server of Kubernetes 1.31 does; what it is asked goes to the file `asked`.
KUBECTL = """#!/bin/sh
echo "$*" >> "$HOME/asked"
case "$1" in
  create) cat >> "$HOME/asked" ;;
  get) echo >> "$HOME/looks"; [ "$(wc -l < "$HOME/looks")" -gt 1 ] && echo "$CONDITIONS" || echo "${CONDITIONS% *}" ;;
esac
"""


@pytest.mark.parametrize(
    ("conditions", "exit_code"), [("SuccessCriteriaMet Complete", 0), ("FailureTarget Failed", 1)], ids=["good", "bad"]
)
def test_the_kubernetes_template_gives_a_run_a_job_of_its_own_and_waits_for_its_end(
    tmp_path: Path, conditions: str, exit_code: int
) -> None:
    template = (ROOT / "docs/deployment.md").read_text().partition("**Kubernetes.**")[2]
    script, job = re.findall(r"```(?:sh|yaml)\n(.*?)```", template, flags=re.DOTALL)[:2]
    (tmp_path / "job.yaml").write_text(job)
    for name, text in {"launch": script.replace("/srv/roundtable", str(tmp_path)), "kubectl": KUBECTL}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o700)
    own = {"HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}", "CONDITIONS": conditions}
    command = [tmp_path / "launch", "-m", "training.rlhf", "sft", "/data/runs/3f0c"]
    assert subprocess.run(command, env=own, capture_output=True, timeout=30).returncode == exit_code
    asked = (tmp_path / "asked").read_text()
    verbs = [line.split()[0] for line in asked.splitlines() if line.split()[0] in ("create", "get", "delete", "logs")]
    assert verbs == ["delete", "create", "get", "get", "logs", "delete"]
    assert asked.count("delete job roundtable-3f0c") == 2
    assert "metadata: {name: roundtable-3f0c}" in asked
    assert "--master-addr=roundtable-3f0c-0.roundtable-run" in asked
    assert "-m, training.rlhf, sft, /data/runs/3f0c]" in asked
