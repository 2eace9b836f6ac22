# make run    the server and its demo on http://127.0.0.1:8080 (--allow-root: also in a container)
# make test   the whole test suite
# make check  format, lint, types and import contracts
# make stress what a year brings, in half an hour: reloads, deaths, upgrades, mistakes under load
# make bench  CPU per request beside nginx (needs wrk and nginx)
# make bench-latency  how long a visitor waits at half load, beside nginx
# make bench-flat     CPU per request with more connections, and with more cached entries
# make bench-idle     memory of idle connections
# make bench-compare  what got slower since the run before

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: run test stress check format bench bench-latency bench-flat bench-idle bench-compare lock wheel clean

run: $(VENV)/.run
	@exec $(BIN)/proxyd run --allow-root -c proxy.toml

test: $(VENV)/.dev
	$(BIN)/python -m pytest --cov --cov-report=term $(ARGS)

stress: $(VENV)/.dev
	$(BIN)/python -m pytest --no-cov -m stress -o log_cli=true -o log_cli_level=INFO $(ARGS) tests/server/test_stress.py

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev
	$(BIN)/python -m bench --keep $(ARGS)

bench-latency: $(VENV)/.dev
	$(BIN)/python -m bench.latency --keep $(ARGS)

bench-flat: $(VENV)/.dev
	$(BIN)/python -m bench.flat --keep $(ARGS)

bench-idle: $(VENV)/.dev
	$(BIN)/python -m bench.idle --keep $(ARGS)

bench-compare: $(VENV)/.dev
	$(BIN)/python -m bench.compare $(ARGS)

wheel: $(VENV)/.dev
	$(PIP) wheel --no-deps --wheel-dir dist .

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

clean:
	rm -rf $(VENV) var backend/var dist build .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
