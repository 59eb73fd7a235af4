# make install   the project and what its tests need, into .venv
# make test      format, lint, types, import contracts, tests
# make test-long the demo, examples and benchmarks in their quick forms: a quarter of an hour more
# make demo      the main job on real input, into runs/demo
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install test test-long lint demo clean

install: $(STAMP)

# torch first and alone: the constraint then keeps every later step from replacing it
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# what measures, and whole services, have the machine for themselves; the rest runs two files at a time
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests/unit tests/migration tests/security tests/benchmarks tests/integration/client tests/integration/test_*.py
	$(BIN)/python -m pytest tests/integration/agent tests/acceptance tests/chaos

test-long: install
	$(BIN)/python -m pytest -m long

demo: install
	$(BIN)/python examples/mnist_demo.py --out runs/demo

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
