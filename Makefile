# make run    the server and its demo on http://127.0.0.1:8080 (--allow-root: also in a container)
# make test   the whole test suite
# make wheel  a wheel for this Python and machine in dist/, the way of a request compiled
# What tests and benchmarks start is compiled as in a wheel, where there is a C compiler; not with
# COMPILED=0, and surely, or not at all, with COMPILED=1. `make run` compiles with COMPILED=1 only.
# make check  format, lint, types and import contracts
# make stress what a year brings, in minutes: reloads, deaths, upgrades, mistakes under load
# make bench  CPU per request beside nginx (needs wrk and nginx)
# make bench-latency  how long a visitor waits at half load, beside nginx
# make bench-flat     CPU per request with more connections, and with more cached entries
# make bench-idle     memory of idle connections
# make bench-compare  what got slower since the run before

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
ASKED := $(COMPILED)
ifndef COMPILED
COMPILED := $(shell $(PYTHON) -c 'import os, shutil, sysconfig as s; print(int(bool(shutil.which((os.environ.get("CC") or s.get_config_var("CC")).split()[0])) and os.path.exists(s.get_path("include") + "/Python.h")))')
endif
# Before the sources on the path of what is started.
ifeq ($(COMPILED),1)
STARTED := $(VENV)/compiled/.done
PLACE   := PYTHONPATH=$(CURDIR)/$(VENV)/compiled
else
STARTED := $(VENV)/.dev
PLACE   :=
endif

.PHONY: run test test-modules test-daemons stress check format bench bench-latency bench-flat bench-idle bench-compare lock wheel clean

run: $(VENV)/.run $(if $(filter 1,$(ASKED)),$(STARTED))
	@exec env $(if $(filter 1,$(ASKED)),$(PLACE)) $(BIN)/proxyd run --allow-root -c proxy.toml

test: test-modules test-daemons

test-modules: $(VENV)/.dev
	$(BIN)/python -m pytest --cov --cov-report=term --ignore=tests/server --ignore=tests/bench $(ARGS)

test-daemons: $(STARTED)
	$(PLACE) $(BIN)/python -m pytest --no-cov tests/bench tests/server $(ARGS)

stress: $(STARTED)
	$(PLACE) $(BIN)/python -m pytest --no-cov -m stress -o log_cli=true -o log_cli_level=INFO $(ARGS) tests/server/test_stress.py

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --platform darwin proxy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STARTED)
	$(PLACE) $(BIN)/python -m bench --keep $(ARGS)

bench-latency: $(STARTED)
	$(PLACE) $(BIN)/python -m bench.latency --keep $(ARGS)

bench-flat: $(STARTED)
	$(PLACE) $(BIN)/python -m bench.flat --keep $(ARGS)

bench-idle: $(STARTED)
	$(PLACE) $(BIN)/python -m bench.idle --keep $(ARGS)

bench-compare: $(VENV)/.dev
	$(BIN)/python -m bench.compare $(ARGS)

wheel: $(VENV)/.dev
	PROXYD_COMPILE=1 $(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .

# Versions and hashes of every package; run after a change of dependencies.
lock: $(VENV)/.run
	$(PIP) install uv
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra demo pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra demo --extra lab --extra dev pyproject.toml -o requirements-dev.lock

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "proxyd needs Python 3.11 or newer; name one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(VENV)/bin/python
	$(PIP) install --require-hashes -r requirements-dev.lock
	$(PIP) install --no-deps --editable .
	@touch $@ $(VENV)/.run

$(VENV)/compiled/.done: $(shell find proxy -name '*.py') hatch_build.py pyproject.toml | $(VENV)/.dev
	$(BIN)/python hatch_build.py $(VENV)/compiled
	@touch $@

clean:
	rm -rf $(VENV) var backend/var dist build .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
