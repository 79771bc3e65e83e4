# Everything runs from .venv, which make creates by itself, and again whenever the locks change. Needed: make and Python
# 3.11 or later. `make` alone lists the commands.

PYTHON ?= python3
API_SERVERS ?= 1
JOB_SERVERS ?= 1
FOLDER ?= .hasty
SEED ?= 1
MINUTES ?= 5
SCREENSHOTS ?= .screenshots
# The tests wait more than they work, so more than there are cores; with many more, those that wait for seconds fail. Each gets whole files, so that the tests of a file
# share the stack they start; the long files go first.
TEST_PROCESSES ?= 4
TESTS := --ignore tests/compose --ignore tests/faults/long --ignore tests/wheel --ignore tests/browser
OVERLAP ?= 1
EACH ?= 5
BIN := .venv/bin
# Twice quiet: errors only, no warning about an index or a newer pip.
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes --only-binary :all:
CODE := hasty api_server job_server tests benchmarks
# From the checkout itself, so that the command and the code are always of one version.
INSTALL_CHECKOUT := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header pyproject.toml
# The base dependencies that no service needs stay out of the images; uvicorn needs click.
LOCK_IMAGE := printf '%s\n' httpx2 rich | $(LOCK) --excludes /dev/stdin

# With AGAIN=1, what failed runs once more, alone, and must pass then: a machine that others use is too slow at times.
# Not so the chaos runs of test-faults: what they find once is found.
again = $(if $(AGAIN),|| { echo "hasty: the tests that failed run once more"; $(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(1); })

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: up
up: .venv/server.stamp ## run the whole system on http://localhost:8080 until Ctrl-C (WORK=tasks.py JOB_SERVERS=3 API_SERVERS=2 FOLDER=.hasty)
	@$(BIN)/hasty up --api-servers $(API_SERVERS) --job-servers $(JOB_SERVERS) --folder '$(FOLDER)' $(if $(WORK),'$(WORK)')

.PHONY: demo
demo: .venv/server.stamp ## 200 jobs on three job-servers, one of which is killed while you watch
	@$(BIN)/python examples/demo/__main__.py

.PHONY: install
install: .venv/dev.stamp ## install everything that tests and checks need

.PHONY: test
test: .venv/dev.stamp ## all tests that need no Docker, on real servers
	@$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile $(TESTS) $(call again,$(TESTS))

.PHONY: test-unit
test-unit: .venv/dev.stamp ## the tests that start no server
	@$(BIN)/python -m pytest tests/unit

.PHONY: test-faults
test-faults: .venv/dev.stamp ## safeguards removed one by one, recovery times, self-healing, retention: ten minutes
	@$(BIN)/python -m pytest -o faulthandler_timeout=900 --numprocesses 2 --dist loadfile tests/faults/long

.PHONY: test-wheel
test-wheel: .venv/dev.stamp ## the tests of the wheel, installed in environments of its own
	@$(BIN)/python -m pytest tests/wheel

.PHONY: test-browser
test-browser: .venv/dev.stamp ## the tests of the dashboard in a real browser; they need chromium
	@$(BIN)/python -m pytest tests/browser $(call again,tests/browser)

.PHONY: chromium
chromium: ## install chromium from the packages of Debian or Ubuntu, if there is none
	@command -v chromium chromium-browser >/dev/null || { apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends chromium fonts-dejavu-core; }

.PHONY: screenshots
screenshots: .venv/dev.stamp ## pictures of all pages of the dashboard in the folder SCREENSHOTS
	@mkdir -p '$(SCREENSHOTS)' && rm -rf '$(SCREENSHOTS)/system' && $(BIN)/python -m tests.browser.screenshots '$(SCREENSHOTS)' && rm -rf '$(SCREENSHOTS)/system'

.PHONY: test-compose
test-compose: .venv/dev.stamp ## the tests of the containers; they need Docker with Compose, and chromium
	@tests/compose/run

.PHONY: faults
faults: .venv/dev.stamp ## a chaos run: kill, freeze and cut things under load, then check every job; the fuzzer is in fuzz (SEED=7 MINUTES=10 OVERLAP=2)
	@$(BIN)/python -m tests.chaos run --seed $(SEED) --minutes $(MINUTES) --overlap $(OVERLAP) $(if $(RESULTS),--results $(RESULTS))

.PHONY: mutants
mutants: .venv/dev.stamp .venv/mutants.stamp ## small changes to what decides, a sample: do the fast tests notice? (SEED=7 EACH=5 of each module)
	@nice -n 19 $(BIN)/python -m tests.mutants --seed $(SEED) --each $(EACH)

.PHONY: fuzz
fuzz: .venv/dev.stamp ## fuzz both HTTP ports, and judge answers, logs and what is left in memory (SEED=7 MINUTES=10)
	@$(BIN)/python -m tests.fuzz --seed $(SEED) --minutes $(MINUTES)

.PHONY: bench
bench: .venv/dev.stamp ## measure how fast it is, about half an hour
	@$(BIN)/python -m benchmarks

.PHONY: check
check: lint types imports test test-wheel test-browser ## what CI runs: lint, types, imports, test, test-wheel, test-browser

.PHONY: lint
lint: .venv/dev.stamp ## ruff: rules and format
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

.PHONY: format
format: .venv/dev.stamp ## let ruff fix what it can
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

.PHONY: types
types: .venv/dev.stamp ## mypy --strict
	@$(BIN)/mypy

.PHONY: imports
imports: .venv/dev.stamp ## import-linter: which package may import what
	@$(BIN)/lint-imports

.PHONY: lock
lock: .venv/dev.stamp ## resolve the dependencies again into requirements/
	@$(LOCK_IMAGE) --extra api-server --output-file requirements/api-server.txt
	@$(LOCK_IMAGE) --extra job-server --output-file requirements/job-server.txt
	@$(LOCK) --extra server --group build --output-file requirements/server.txt
	@$(LOCK) --extra server --group dev --output-file requirements/dev.txt
	@$(LOCK) --group mutants --constraint requirements/dev.txt --output-file requirements/mutants.txt

.PHONY: wheel
wheel: .venv/dev.stamp ## build the wheel into dist/
	@$(BIN)/python -m hatchling build --target wheel

.PHONY: clean
clean: ## remove what make created: .venv, dist, caches (data in .hasty stays)
	@rm -rf .venv dist mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A venv whose creation is interrupted leaves no stamp, and is created again.
.venv/made.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "hasty: Python 3.11 or later is needed, and $(PYTHON) is $$($(PYTHON) --version 2>&1 | tail -n 1): install one (Debian and Ubuntu: apt-get install python3 python3-venv; macOS: brew install python), or name it: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "hasty: the venv module of $(PYTHON) is not installed (Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv
	@touch $@

.venv/server.stamp: .venv/made.stamp requirements/server.txt pyproject.toml
	@echo "installing Hasty and its servers into .venv"
	@$(PIP) --requirement requirements/server.txt
	@$(INSTALL_CHECKOUT)
	@touch $@

# The programs of the local stack are in this lock as well.
.venv/dev.stamp: .venv/made.stamp requirements/dev.txt pyproject.toml
	@echo "installing Hasty, its servers and what the tests need into .venv"
	@$(PIP) --requirement requirements/dev.txt
	@$(INSTALL_CHECKOUT)
	@touch $@ .venv/server.stamp

# mutmut, with a dozen packages that nothing else needs.
.venv/mutants.stamp: .venv/dev.stamp requirements/mutants.txt
	@$(PIP) --requirement requirements/mutants.txt
	@touch $@
