PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := latency_service pruning_client benchmarks tools tests
# several workers share the processor: one thread each; in the order of the folders, so that the
# many small files of tests/unit come last and both workers end at the same time
PARALLEL := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
# what depends on the speed or the quiet of the machine has it for itself
ALONE_TESTS := $(addprefix tests/,acceptance/test_main_job.py acceptance/test_serve.py \
  browser/test_reaction.py security/test_cost.py)
FAST_TESTS := tests $(ALONE_TESTS:%=--ignore=%)

# every test process would compile the source anew
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install lint test test-long test-edge coverage docs demo picture clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | while IFS='	' read -r name text; do printf 'make %-10s %s\n' "$$name" "$$text"; done

install: $(STAMP)  ## the project and what its tests need, into .venv

# torch first and alone: the constraint then keeps every later step from replacing it
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

lint: install  ## format, lint, spelling, types, import contracts, file lengths
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.measure_code $(SOURCES)

test: lint  ## lint, then every test but the long ones: about a quarter of an hour
	$(PARALLEL) $(FAST_TESTS)
	$(BIN)/python -m pytest $(ALONE_TESTS)

test-long: install  ## the tests that CI does not run (CONTRIBUTING.md says when): a quarter of an hour more
	$(BIN)/python -m pytest -m long

test-edge: install  ## the base wheel on an emulated arm64 board (x86-64 Debian only; three minutes)
	tools/edge_board.sh $(BIN)/python
	$(BIN)/python -m pytest -m long tests/edge

coverage: install  ## share of both packages' lines that the tests run
	$(PARALLEL) --cov latency_service --cov pruning_client --cov-report= $(FAST_TESTS)
	$(BIN)/python -m pytest --cov latency_service --cov pruning_client --cov-append $(ALONE_TESTS)

docs: install  ## the documentation as a site, into build/docs/site; fails on any warning
	$(BIN)/python -m tools.documentation

demo: install  ## the main job on real input, into runs/demo
	$(BIN)/python examples/mnist_demo.py --out runs/demo

picture: install runs/demo/report.json  ## the README's first picture, from the demo's report
	$(BIN)/pruning-client report runs/demo --png docs/images/report.png

runs/demo/report.json:
	$(MAKE) demo

clean:  ## remove .venv, the emulated board and what tools leave behind; runs/ stays
	rm -rf $(VENV) .edge build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
