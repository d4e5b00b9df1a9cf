# make run | test | check | demo. Each sets up the environment first; only Python 3.11+ and make are needed.

SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
LOCK := requirements.lock
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)

export DATA_DIR ?= $(CURDIR)/data
export PORT ?= 8000
SEED ?= 0
ROUNDS ?= 2
ANNOTATORS ?= 8

.PHONY: help run test check format demo install environment

help:
	@echo "make run     start Roundtable here: http://localhost:$(PORT), data in $(DATA_DIR)"
	@echo "make test    all tests (ARGS='tests/rlhf -k ppo' for some)"
	@echo "make check   lint, types and other checks that CI runs before the tests"
	@echo "make format  format the code with ruff"
	@echo "make demo    two full rounds with simulated annotators, unattended: SEED=0 ROUNDS=2 ANNOTATORS=8"

run: install
	@exec $(BIN)/python deploy/run.py

# Two processes: half of the tests wait for processes of their own.
test: install
	@$(BIN)/python -m pytest -n 2 --dist loadgroup --durations=10 --durations-min=1 -m 'not soak' $(ARGS)

demo: install
	@scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	DATA_DIR="$$scratch" $(BIN)/python manage.py demo --seed $(SEED) --rounds $(ROUNDS) --annotators $(ANNOTATORS)

check: export DATA_DIR := $(shell mktemp -du)
check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/djlint --lint --quiet templates
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python manage.py check --deploy --fail-level WARNING
	PUBLIC_URL=https://roundtable.example $(BIN)/python manage.py check --deploy --fail-level WARNING
	@rm -rf "$$DATA_DIR"

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The lock that was installed is kept beside it: an unchanged lock costs nothing, whatever git does to file times.
install:
	@cmp -s $(LOCK) $(VENV)/$(LOCK) || $(MAKE) --no-print-directory environment

environment:
	@test -n "$(PYTHON)" || { echo "Roundtable needs Python 3.11 or newer."; exit 1; }
	@echo "Installing into $(VENV). This takes a few minutes, only the first time."
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing (Debian: apt install python3-venv)."; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c $(LOCK) torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r $(LOCK)
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >$(VENV)/compile.log 2>&1 || true # pip would use one core
	@cp $(LOCK) $(VENV)/$(LOCK)
