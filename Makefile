.DEFAULT_GOAL := help
.PHONY: help install demo check test test-ray test-others test-cluster lint ui constraints clean

# The Python that makes .venv: the first of these that runs, is 3.11 or newer and can make environments.
PYTHONS := $(PYTHON) python3.11 python3.12 python3.13 python3 python
BIN := .venv/bin
# What is installed depends on these; the stamp's name changes with them, so that `make install` knows at once.
STAMP := .venv/.installed-$(shell { cat pyproject.toml constraints.txt; echo "$(CURDIR)"; } | cksum | cut -d ' ' -f 1)

help:  ## show this
	@sed -n 's/^\([a-z-]*\):.*##/  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

install: $(STAMP)  ## create .venv and install everything into it; quick when nothing changed

$(STAMP):
	@if ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
	  for python in $(PYTHONS); do \
	    if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then break; fi; \
	    python=; \
	  done; \
	  if [ -z "$$python" ]; then echo 'Python 3.11 or newer is needed: install one, or say make PYTHON=/path/to/python' >&2; exit 1; fi; \
	  echo "Creating .venv with $$($$python --version)"; \
	  $$python -m venv --clear .venv; \
	fi
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt --upgrade pip setuptools
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@rm -f .venv/.installed-*
	@touch $@

demo: install  ## the whole story on bundled photographs, in minutes on a laptop
	$(BIN)/sisr demo

check: install lint  ## what to run before each commit: style, types and the fast tests
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not (cluster or ray or mlflow or browser or slow)"

# Those that start Ray run one after the other, which is mostly waiting; the others beside them.
test: install  ## run all tests that can run on this machine
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=line test-ray test-others

test-ray: install
	$(BIN)/python -m pytest -m "ray and not cluster"

test-others: install
	$(BIN)/python -m pytest -m "not (ray or cluster)"

test-cluster: install  ## run the tests over several simulated hosts; needs root on Linux and 8 GB of memory
	$(BIN)/python -m pytest -m cluster --durations=0

lint: install  ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

ui: install  ## show runs, images and models in the browser
	$(BIN)/sisr ui

constraints: install  ## write the installed versions to constraints.txt
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/python -m pip freeze --all --exclude-editable; } > .venv/constraints.txt
	@mv .venv/constraints.txt constraints.txt

clean:  ## remove .venv and everything built; keeps runs
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache platform/sisr.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
