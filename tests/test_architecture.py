"""What holds for the whole tree: who imports what, how large things get, what is pinned. Contracts: pyproject.toml."""

import ast
import configparser
import hashlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

import pytest
import yaml
from packaging.requirements import Requirement

from training.engine_process import GPU, HUGE_PAGES

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("annotate", "config", "deploy", "training")
LIBRARIES = {"torch", "transformers", "peft", "tokenizers", "safetensors"}
ENGINE_MAY_IMPORT = LIBRARIES | {"training"} | set(sys.stdlib_module_names)


def sources(*folders: str) -> list[Path]:
    return [
        path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")) if "migrations" not in path.parts
    ]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function of a file with its length in lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def imported(path: Path) -> set[str]:
    """The top-level names that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def locked() -> dict[str, str]:
    """Name -> version of every line of the lock."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins}


def run_python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "entry",
    [
        "import config.wsgi; from django.urls import get_resolver; get_resolver().url_patterns",
        "import django; django.setup(); from config import celery_app; celery_app.loader.import_default_modules()",
    ],
    ids=["web", "celery"],
)
def test_web_and_celery_processes_start_without_torch(entry: str) -> None:
    heavy = "{'torch', 'transformers', 'tokenizers', 'numpy'}"
    assert run_python(f"import sys; {entry}; print(sorted({heavy} & set(sys.modules)))").strip() == "[]"


@pytest.mark.parametrize("module", ["config", "data.records"])
def test_the_web_process_may_read_the_engines_configs_and_records(module: str) -> None:
    assert run_python(f"import sys, training.rlhf.{module}; print('torch' in sys.modules)").strip() == "False"


def test_the_engine_imports_only_pytorch_its_friends_and_the_standard_library() -> None:
    strangers = {path.name: imported(path) - ENGINE_MAY_IMPORT for path in sources("training/rlhf")}
    assert {name: names for name, names in strangers.items() if names} == {}


def test_no_weights_travel_as_pickle_and_no_model_brings_code() -> None:
    forbidden = re.compile(r"import pickle|torch\.(load|save)\(|trust_remote_code=True|weights_only|allow_pickle=True")
    assert [path.name for path in sources(*PRODUCT) if forbidden.search(path.read_text())] == []


def test_no_file_is_longer_than_400_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources(*PRODUCT)}
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}


def test_functions_are_short() -> None:
    lengths = dict(function for path in sources(*PRODUCT) for function in functions(path))
    assert {name: lines for name, lines in lengths.items() if lines > 40} == {}
    assert median(lengths.values()) <= 10
    assert quantiles(lengths.values(), n=10)[-1] <= 30


def test_nothing_is_left_for_later() -> None:
    promise = re.compile(r"\b(TODO|FIXME|XXX)\b|raise NotImplementedError")
    assert [str(path) for path in sources(*PRODUCT) if promise.search(path.read_text())] == []


def test_templates_carry_no_inline_script_or_style() -> None:
    inline = re.compile(
        r"<script(?![^>]*\bsrc=)(?![^>]*application/json)|<style|\sstyle=|\son[a-z]+=\"|javascript:|hx-on"
    )
    found = [
        str(path.relative_to(ROOT)) for path in (ROOT / "templates").rglob("*.html") if inline.search(path.read_text())
    ]
    assert found == []


def test_the_lock_pins_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    asked = [Requirement(line) for group in groups for line in group]
    pins = locked()
    names = {requirement: re.sub(r"[-_.]+", "-", requirement.name).lower() for requirement in asked}
    assert [str(requirement) for requirement, name in names.items() if name not in pins] == []
    assert [str(requirement) for requirement, name in names.items() if pins[name] not in requirement.specifier] == []


def test_the_lock_names_versions_only() -> None:
    assert next(iter(locked())) == "torch"
    assert [version for version in locked().values() if not re.fullmatch(r"[0-9][0-9a-z.]*", version)] == []


def test_vendored_files_are_what_their_authors_published() -> None:
    table = (ROOT / "static/vendor/README.md").read_text()
    rows = re.findall(r"^\| (\S+\.(?:js|css)) \|.*\| ([0-9a-f]{64}) \|$", table, flags=re.MULTILINE)
    taken = [path.name for path in (ROOT / "static/vendor").iterdir() if path.suffix in (".js", ".css")]
    assert sorted(name for name, _ in rows) == sorted(taken)
    for name, digest in rows:
        assert hashlib.sha256((ROOT / "static/vendor" / name).read_bytes()).hexdigest() == digest


def test_one_machine_and_several_run_the_same_processes() -> None:
    machine = configparser.RawConfigParser()
    machine.read(ROOT / "deploy/supervisord.conf")
    programs = {section.removeprefix("program:") for section in machine.sections() if section.startswith("program:")}
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert programs == {"web", "worker", "gpu-worker", "beat"}
    assert services.keys() == programs | {"prepare", "postgres", "redis"}
    assert machine["program:gpu-worker"]["stopwaitsecs"] == "120"
    assert services["gpu-worker"]["stop_grace_period"] == "120s"


def test_what_runs_jobs_in_containers_gets_what_operators_set_for_it_and_no_secret_of_the_pages() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    jobs = (ROOT / "config/settings.py").read_text().partition("# --- Jobs ---")[2]
    read = {*re.findall(r'env[.\w]*\(\s*"(\w+)"', jobs), GPU, *HUGE_PAGES}
    documented = set(re.findall(r"\b[A-Z_]+\b", (ROOT / "docs/deployment.md").read_text()))
    given = {"DATABASE_URL", "PGPASSWORD", "REDIS_URL", "PUBLIC_URL", *(read & documented)}
    for name in ("gpu-worker", "beat"):
        assert "env_file" not in services[name]
        assert services[name]["environment"].keys() == given
    for name in ("prepare", "web", "worker"):
        assert services[name]["environment"].keys() == {*services["beat"]["environment"], "SECRET_KEY"}
