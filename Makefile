# One command for each chore; every one does the set-up it needs. `make` alone lists them.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Test processes at once. The clusters in the tests are busy themselves: more than one per core only makes them late.
JOBS ?= 2
# Further words for pytest, e.g.  make test PYTEST_ARGS="-k failover -x"
PYTEST_ARGS ?=

# The compiled build; see setup.py. Tests and benchmarks find it through HASHSLOT_PACKAGE.
COMPILED := build/compiled

.DEFAULT_GOAL := help
.PHONY: help setup six-node six-node-status six-node-stop test test-compiled explore compat check format compiled bench clean distclean redis

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

six-node: $(VENV)/.runtime  ## start a cluster of six nodes on this machine and show what to try next
	@$(BIN)/python examples/six-node/six_node.py start

six-node-status: $(VENV)/.runtime  ## who is master and who is replica in the example
	@$(BIN)/python examples/six-node/six_node.py status

six-node-stop:  ## stop the six nodes, keeping their data
	@if [ -x $(BIN)/python ]; then $(BIN)/python examples/six-node/six_node.py stop; fi

test: $(VENV)/.development redis  ## run all tests, installing Debian's Redis to compare with where that is allowed
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(PYTEST_ARGS)

test-compiled: $(VENV)/.development redis $(COMPILED)/.done  ## the tests that start nodes, with nodes of the compiled build
	HASHSLOT_PACKAGE=$(COMPILED) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile tests/interop tests/chaos $(PYTEST_ARGS)

explore: $(VENV)/.development redis  ## all tests with random examples that no run has had before; what fails becomes an example for good
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --hypothesis-profile=explore $(PYTEST_ARGS)

compat: $(VENV)/.development redis  ## compare with redis-server at length: thousands of random request sequences
	$(BIN)/python -m pytest --hypothesis-profile=compat --timeout=3600 \
		tests/interop/test_differential*.py tests/interop/test_long_double_interop.py $(PYTEST_ARGS)

check: $(VENV)/.development  ## lint, formatting, types and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.development  ## put all files into the one format, and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

compiled: $(COMPILED)/.done  ## build/compiled: the same package, what every request passes through compiled by mypyc

bench: $(VENV)/.development redis  ## measure against redis-server and write benchmarks/RESULTS.md
	@if command -v cc >/dev/null; then $(MAKE) --no-print-directory compiled && HASHSLOT_PACKAGE=$(COMPILED) $(BIN)/python -m benchmarks; \
	else echo "No C compiler here: measuring the plain build."; $(BIN)/python -m benchmarks; fi

setup: $(VENV)/.development  ## make .venv with everything that tests and checks need

clean: six-node-stop  ## remove caches, build results and the example's data
	rm -rf build dist *.egg-info tools/*.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf examples/six-node/data
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print | xargs rm -rf

distclean: clean  ## also remove .venv
	rm -rf $(VENV)

redis:  ## install Debian's redis-server and redis-tools, if missing and allowed; no service is started
	@sh .ci/install-redis

$(BIN)/python:
	@sh .ci/make-venv "$(PYTHON)" $(VENV)

# What the example needs: the package itself, and redis-py for its client.
$(VENV)/.runtime: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e . 'redis>=5'
	@touch $@

$(VENV)/.development: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.runtime

$(COMPILED)/.done: setup.py pyproject.toml $(shell find cluster -name '*.py') | $(BIN)/python
	rm -rf $(COMPILED) build/lib* build/temp* build/bdist*
	HASHSLOT_COMPILE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(COMPILED) .
	@touch $@
