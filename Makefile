# Two commands do all set-up on a fresh machine: `make demo` to use featherweight, `make test` to
# develop it. Everything is installed into .venv with Python's own venv and pip.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# The stamps name what was installed: pyproject.toml, and this folder, since an editable
# installation points to it. The environment is reused while both are unchanged.
KEY := $(shell $(PYTHON) -c "import hashlib, os; print(hashlib.sha256(open('pyproject.toml', 'rb').read() + os.getcwd().encode()).hexdigest()[:16])")
USE_STAMP := $(VENV)/.installed-use-$(KEY)
DEVELOP_STAMP := $(VENV)/.installed-develop-$(KEY)

PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-input
PYTEST := $(BIN)/python -m pytest -q --durations=15
# A process a core (of up to four: each takes 2 GB), with a thread each: threads of several processes only fight each other.
WORKERS := $(shell $(PYTHON) -c "import os; print(min(4, os.cpu_count() or 1))")
PYTEST_BESIDE := $(PYTEST) -n $(WORKERS) --dist worksteal
test: export OMP_NUM_THREADS ?= 1
test-slow golden: export OMP_NUM_THREADS ?= 2

DEMO := fit demo --latency 0.5ms --time 2m --output demo-run

.NOTPARALLEL:
.PHONY: help demo check test test-slow golden format system clean

help:
	@echo "make demo       set up, then fit the bundled digits (offline)"
	@echo "make check      formatting, lint, types, import layers"
	@echo "make test       the tests (make test-slow: the long ones)"
	@echo "make golden     rewrite the golden files and show what changed"
	@echo "make format     format and fix what ruff can fix"
	@echo "make system     install the system programs the tests use (root)"
	@echo "make clean      remove what these commands made, the environment included"

demo: $(USE_STAMP)
	$(BIN)/featherweight $(DEMO)

check: $(DEVELOP_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m mypy --strict
	$(BIN)/lint-imports

test: $(DEVELOP_STAMP)
	$(PYTEST_BESIDE) -m "not slow"

test-slow: $(DEVELOP_STAMP)
	$(PYTEST) -m slow

golden: $(DEVELOP_STAMP)
	FEATHERWEIGHT_GOLDEN=rewrite $(PYTEST) -m "not slow"
	git --no-pager diff --stat -- tests

format: $(DEVELOP_STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

system:
	scripts/install_system.sh

clean:
	rm -rf $(VENV) build dist demo-run .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@# Half an environment would look like a whole one to the next run.
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(USE_STAMP): | $(BIN)/python
	@echo "Installing featherweight and its libraries (torch is large: this can take many minutes)"
	$(PIP_INSTALL) -e .
	@rm -f $(VENV)/.installed-use-*
	@touch $@

# No prerequisite on the stamp above: one pip run installs everything.
$(DEVELOP_STAMP): | $(BIN)/python
	@echo "Installing featherweight, its libraries and its tests' libraries (torch is large: this can take many minutes)"
	$(PIP_INSTALL) -e '.[dev,pretrained]'
	@rm -f $(VENV)/.installed-*
	@touch $@ $(USE_STAMP)
