"""Every dependency in pyproject.toml is used somewhere, and what our code imports from others is declared there."""

from __future__ import annotations

import re
import sys
import tomllib
from functools import cache
from importlib.metadata import distribution, packages_distributions
from importlib.util import find_spec
from pathlib import Path

import environ
import pytest
from packaging.requirements import Requirement

from tests.test_architecture import imported

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PRODUCT = ("annotate", "config", "deploy", "training", "manage.py")
OURS = (*PRODUCT, "benchmarks", "docs", "tests", ".ci")
# Where programs, plugins and classes are named that nothing imports.
CONFIGURATION = ("Makefile", ".ci/run", "deploy", "config/settings.py")


def names(*groups: str) -> list[str]:
    """The distributions that groups of pyproject.toml ask for, written as the index writes them."""
    project = PYPROJECT["project"]
    lists = [
        project["dependencies"] if group == "runtime" else project["optional-dependencies"][group] for group in groups
    ]
    return [re.sub(r"[-_.]+", "-", Requirement(line).name).lower() for lines in lists for line in lines]


@cache
def modules() -> dict[str, set[str]]:
    """The top-level modules of each distribution that is installed."""
    found: dict[str, set[str]] = {}
    for module, distributions in packages_distributions().items():
        for name in distributions:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), set()).add(module)
    return found


@cache
def imports(*places: str) -> set[str]:
    """The top-level modules that the files in `places` import."""
    files = [
        path for place in places for path in ([ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py"))
    ]
    return set().union(*map(imported, files))


@cache
def configuration() -> str:
    """The text of these files without their comments, and the plugins of mypy."""
    files = [path for place in CONFIGURATION for path in [ROOT / place, *(ROOT / place).rglob("*")] if path.is_file()]
    lines = [line for path in files if path.suffix != ".pyc" for line in path.read_text().splitlines()]
    # No more of pyproject.toml: its other lists name what must not be imported, or has no types.
    return "\n".join([re.sub(r"(^|\s)[#;].*", "", line) for line in lines] + PYPROJECT["tool"]["mypy"]["plugins"])


@cache
def database_driver() -> set[str]:
    """What Django imports for the database of docker-compose.yml."""
    scheme = re.findall(r"DATABASE_URL: (\w+)://", (ROOT / "docker-compose.yml").read_text())[0]
    backend = find_spec(environ.Env.db_url_config(f"{scheme}://")["ENGINE"] + ".base")
    assert backend and backend.origin
    return imported(Path(backend.origin))


def is_configured(name: str) -> bool:
    """Whether the configuration names it, or a program or module of it; Argon2PasswordHasher names argon2."""
    scripts = {entry.name for entry in distribution(name).entry_points if entry.group == "console_scripts"}
    words = "|".join(map(re.escape, {name} | modules()[name] | scripts))
    return bool(re.search(rf"(?<![a-z0-9_-])(?i:{words})(?![a-z0-9_-])", configuration()))


def is_pytest_plugin_in_use(name: str) -> bool:
    """Whether pytest's settings or the marks of tests are those of the plugin."""
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    used = {*PYPROJECT["tool"]["pytest"]["ini_options"], *re.findall(r"pytest\.mark\.(\w+)", tests)}
    plugins = [entry.name for entry in distribution(name).entry_points if entry.group == "pytest11"]
    return any(word.startswith(plugin) for plugin in plugins for word in used)


def stubs_are_read(name: str) -> bool:
    """Whether what mypy checks imports what the distribution has the types of."""
    typed = {module.removesuffix("-stubs") for module in modules()[name] if module.endswith("-stubs")}
    return bool(typed & imports(*PYPROJECT["tool"]["mypy"]["files"]))


@pytest.mark.parametrize("name", names("runtime", "train"))
def test_what_the_product_asks_for_it_uses(name: str) -> None:
    assert modules()[name] & (imports(*PRODUCT) | database_driver()) or is_configured(name)


@pytest.mark.parametrize("name", names("dev"))
def test_what_development_asks_for_it_uses(name: str) -> None:
    used = modules()[name] & imports(*OURS), is_configured(name), is_pytest_plugin_in_use(name), stubs_are_read(name)
    assert any(used)


@pytest.mark.parametrize(
    ("places", "groups"),
    [(PRODUCT, ("runtime", "train")), (OURS, ("runtime", "train", "dev"))],
    ids=["product", "everything"],
)
def test_what_is_imported_is_asked_for(places: tuple[str, ...], groups: tuple[str, ...]) -> None:
    asked = set().union(*(modules()[name] for name in names(*groups)))
    ours = {Path(place).stem for place in OURS}
    assert imports(*places) - set(sys.stdlib_module_names) - ours - asked == set()
