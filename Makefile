# Everything runs from .venv, which make makes by itself, again whenever the locks change. Needed: make and Python 3.11
# or later. `make` alone shows what there is.

PYTHON ?= python3
API_SERVERS ?= 1
JOB_SERVERS ?= 1
SEED ?= 1
MINUTES ?= 5
# More than there are cores: the tests wait more than they work. Each gets whole files, so that the tests of a file
# share the stack they start; the long files go first.
TEST_PROCESSES ?= 8
OVERLAP ?= 1
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all:
CODE := api_server job_server messaging runtime local_stack tests benchmarks
# Which extras each lock holds; what both services need is in every one of them.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header pyproject.toml

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: up
up: .venv/local-stack.stamp ## run the whole system on http://localhost:8080 until Ctrl-C (JOB_SERVERS=3 API_SERVERS=2)
	@$(BIN)/python -m local_stack up --api-servers $(API_SERVERS) --job-servers $(JOB_SERVERS)

.PHONY: install
install: .venv/dev.stamp ## install everything that tests and checks need

.PHONY: test
test: .venv/dev.stamp ## all tests that need no Docker, on real servers
	@$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --ignore tests/compose --ignore tests/faults/long

.PHONY: test-unit
test-unit: .venv/dev.stamp ## the tests that start no server
	@$(BIN)/python -m pytest tests/unit

.PHONY: test-faults
test-faults: .venv/dev.stamp ## guards removed one by one, recovery in time, processes that heal themselves: five minutes
	@$(BIN)/python -m pytest tests/faults/long

.PHONY: test-compose
test-compose: .venv/dev.stamp ## the tests of the containers; they need Docker with Compose
	@tests/compose/run

.PHONY: faults
faults: .venv/dev.stamp ## hunt: kill, freeze and cut things under load, and judge the end (SEED=7 MINUTES=10 OVERLAP=2)
	@$(BIN)/python -m tests.faults run --seed $(SEED) --minutes $(MINUTES) --overlap $(OVERLAP) $(if $(RESULTS),--results $(RESULTS))

.PHONY: bench
bench: .venv/dev.stamp ## measure how fast it is, about half an hour
	@$(BIN)/python -m benchmarks

.PHONY: check
check: lint types walls test ## what CI runs: lint, types, walls, test

.PHONY: lint
lint: .venv/dev.stamp ## ruff: rules and format
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

.PHONY: format
format: .venv/dev.stamp ## let ruff mend what it can
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

.PHONY: types
types: .venv/dev.stamp ## mypy --strict
	@$(BIN)/mypy

.PHONY: walls
walls: .venv/dev.stamp ## which room may import what
	@$(BIN)/lint-imports

.PHONY: lock
lock: .venv/dev.stamp ## resolve the dependencies anew into requirements/
	@$(LOCK) --extra api-server --output-file requirements/api-server.txt
	@$(LOCK) --extra job-server --output-file requirements/job-server.txt
	@$(LOCK) --extra api-server --extra job-server --extra local-stack --output-file requirements/local-stack.txt
	@$(LOCK) --all-extras --output-file requirements/dev.txt

.PHONY: clean
clean: ## remove what make made: .venv, the unpacked database program, caches (data in .hasty stays)
	@rm -rf .venv .hasty/programs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A venv that breaks off half way leaves no stamp, and is made anew.
.venv/made.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "hasty: Python 3.11 or later is needed, and $(PYTHON) is $$($(PYTHON) --version 2>&1 | tail -n 1): install one (Debian and Ubuntu: apt-get install python3 python3-venv; macOS: brew install python), or name it: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "hasty: the venv module of $(PYTHON) is not installed (Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv
	@touch $@

.venv/local-stack.stamp: .venv/made.stamp requirements/local-stack.txt
	@echo "installing what the stack needs into .venv"
	@$(PIP) --requirement requirements/local-stack.txt
	@touch $@

# The programs of the local stack are in this lock as well.
.venv/dev.stamp: .venv/made.stamp requirements/dev.txt
	@echo "installing what the tests need into .venv"
	@$(PIP) --requirement requirements/dev.txt
	@touch $@ .venv/local-stack.stamp
