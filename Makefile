# Everything starts here. A fresh machine needs Python 3.11 or newer, make and git; the first target
# makes .venv from requirements.lock, and from then on nothing here uses the network (but `make lock`).

PYTHON ?= python3
BIN := .venv/bin
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
INSTALLED := .venv/installed
PHOENIX := .venv-phoenix/installed
# pyright asks at each run whether there is a newer pyright; it need not.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help demo test check docs fmt promises test-plugins test-frameworks dist-test e2e-traces picture bench compare lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

demo: $(INSTALLED) ## Run the support desk: allowed, refused, steered, approved
	$(BIN)/python examples/support_desk.py

test: $(INSTALLED) ## Run the tests
	$(BIN)/pytest -n auto --dist worksteal

# The tests build the site too.
check: $(INSTALLED) ## Run all that a change has to pass: format, lint, types, layers, tests
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory test

# A warning of a page that was built before is not told again: so all are built anew.
docs: $(INSTALLED) ## Build the site of the documentation
	@rm -rf build/docs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --conf-dir docs . build/docs
	@echo "Open build/docs/index.html"

fmt: $(INSTALLED) ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

promises: $(INSTALLED) ## Test the promises of docs/explanation/guarantees.md, and count
	$(BIN)/pytest -q --promises -m "promise and not soak"

test-plugins: $(INSTALLED) ## Run the tests of each plugin by themselves
	@set -e; for plugin in $(PLUGINS); do echo "== $$plugin"; $(BIN)/pytest $$plugin/tests; done

test-frameworks: $(INSTALLED) ## Run adapters' tests at the oldest and newest framework releases (PLUGIN=name)
	@$(BIN)/python -m pip install --quiet uv
	$(BIN)/python tests/frameworks.py $(PLUGIN)

e2e-traces: $(INSTALLED) $(PHOENIX) ## Find the demo's denied call in a real Arize Phoenix, by REST and in a browser
	$(BIN)/pytest tests/e2e -m e2e -p no:randomly -v $(E2E_FLAGS)

picture: $(INSTALLED) ## Draw the terminal of the demo, which the README shows
	$(BIN)/python docs/pictures/demo.py

dist-test: $(INSTALLED) ## Build every wheel and sdist, and test them where there is no source of ours
	$(BIN)/pytest tests/packaging -m "soak or not soak"

bench: $(INSTALLED) ## Run the benchmarks (BENCH_FLAGS="--quick --json")
	@set -e; for script in $(filter-out benchmarks/_%,$(wildcard benchmarks/*.py)); do \
		echo "== $$script"; $(BIN)/python $$script $(BENCH_FLAGS); done

compare: $(INSTALLED) ## Measure what README and docs compare, and write it into them: ten minutes
	$(BIN)/python benchmarks/_compare.py --measure

# One lock for every Python and platform. It names no index, so it works with any mirror.
lock: $(INSTALLED) ## Choose the newest versions anew and write requirements.lock
	$(BIN)/python -m pip install --quiet --upgrade uv
	$(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --python-version 3.11 \
		--no-header --no-annotate $(foreach name,interlock $(notdir $(PLUGINS)),--no-emit-package $(name)) \
		--group dev --output-file requirements.lock pyproject.toml $(PLUGINS:%=%/pyproject.toml)
	echo arize-phoenix | $(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes \
		--python-version 3.11 --no-header --no-annotate --output-file tests/e2e/phoenix.lock -

clean: ## Remove all that make and the tools have made, .venv too
	rm -rf .venv .venv-phoenix build dist htmlcov .coverage* .hypothesis .import_linter_cache .*_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# The stamp is newer than what it was made from, or the step is run again. Our own packages are
# installed editable and without isolation: the lock has their build backend, so pip downloads nothing.
$(INSTALLED): requirements.lock pyproject.toml $(PLUGINS:%=%/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Interlock needs Python 3.11 or newer, and $(PYTHON) is not: try make PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
		echo "$(PYTHON) cannot make a virtual environment: install its venv module (Debian: python3-venv)" >&2; exit 1; }
	@echo "Making .venv from requirements.lock: once, about a minute"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-index --no-deps --no-build-isolation $(foreach path,. $(PLUGINS),-e $(path))
	@touch $@

# It brings 160 packages that nothing else here needs, so it has an environment of its own. The lock has them all;
# asked to look for more, pip stumbles over those with extras.
$(PHOENIX): tests/e2e/phoenix.lock
	@echo "Making .venv-phoenix from $<: once, two minutes, 900 MB"
	$(PYTHON) -m venv --clear .venv-phoenix
	.venv-phoenix/bin/python -m pip install --quiet --require-hashes --no-deps -r $<
	@touch $@
