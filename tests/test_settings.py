"""What the environment says, as config/settings.py reads it, and what reaches it through docker-compose.yml."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
READ = re.findall(r'env[.\w]*\(\s*"(\w+)"', (ROOT / "config/settings.py").read_text())
HTTPS = {"PUBLIC_URL": "https://roundtable.example.org"}


def printed(expression: str, data_dir: Path, environment: dict[str, str]) -> Any:
    """What `expression` is in a fresh process that has these variables, and none of this one's settings."""
    kept = {name: value for name, value in os.environ.items() if name not in READ}
    own = {"DATA_DIR": str(data_dir), "DJANGO_SETTINGS_MODULE": "config.settings"}
    begin = "import django.db, json; from django.conf import settings; django.setup()"
    script = f"{begin}; print(json.dumps({expression}))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=kept | environment | own, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("key", ["$HOME" * 10, r"\$a$\$" * 10], ids=["name", "escape"])
def test_a_dollar_sign_in_a_value_is_no_reference_to_another_variable(tmp_path: Path, key: str) -> None:
    environment = {"SECRET_KEY": key, "ROUNDTABLE_ENGINE_LAUNCHER": "$HOME/launch"}
    assert printed("[settings.SECRET_KEY, settings.ENGINE_LAUNCHER]", tmp_path, environment) == [key, "$HOME/launch"]


def test_an_empty_variable_counts_as_unset(tmp_path: Path) -> None:
    values = "{name: str(getattr(settings, name)) for name in dir(settings) if name.isupper()}"
    assert "ROUNDTABLE_ENGINE_PROCESSES" in READ
    assert printed(values, tmp_path, dict.fromkeys(READ, "")) == printed(values, tmp_path, {})


def test_an_https_address_promises_https_for_its_own_host_alone(tmp_path: Path) -> None:
    promised = "[settings.SECURE_HSTS_SECONDS, settings.SECURE_HSTS_INCLUDE_SUBDOMAINS, settings.SECURE_HSTS_PRELOAD]"
    assert printed(promised, tmp_path, {}) == [0, False, False]
    assert printed(promised, tmp_path, HTTPS) == [31_536_000, False, False]


def test_every_password_for_the_database_of_the_containers_is_used_as_it_is(tmp_path: Path) -> None:
    """As libpq finds it, which takes what Django does not give."""
    password = "a/b?c#d@e:f%2F+$HOME="
    beat = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["beat"]["environment"]
    assert re.fullmatch(r"\$\{POSTGRES_PASSWORD:[^}]*\}", beat["PGPASSWORD"])
    environment = {"DATABASE_URL": beat["DATABASE_URL"], "PGPASSWORD": password}
    by_django = "'password' in django.db.connection.get_connection_params()"
    defaults = "__import__('psycopg').pq.Conninfo.get_defaults()"
    by_libpq = f"[each.val.decode() for each in {defaults} if each.keyword == b'password']"
    assert printed(f"[{by_django}, {by_libpq}]", tmp_path, environment) == [False, [password]]
