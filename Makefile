.DEFAULT_GOAL := help
.PHONY: help install demo check test test-fast test-ray test-sweeps test-servers test-others test-training test-cluster test-again test-gpu bundle lint ui constraints clean

# The Python that makes .venv: the first of these that runs, is 3.11 or newer and can make environments.
PYTHONS := $(PYTHON) python3.11 python3.12 python3.13 python3 python
BIN := .venv/bin
# What is installed depends on these; the stamp's name changes with them, so that `make install` knows at once.
STAMP := .venv/.installed-$(shell { cat pyproject.toml constraints.txt; echo "$(CURDIR)"; } | cksum | cut -d ' ' -f 1)

# Where it is set, as in some images of containers, each of the hundreds of processes that tests start compiles anew.
unexport PYTHONDONTWRITEBYTECODE

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

# The types are checked by one process, which leaves room for the tests beside it.
check: install  ## what to run before each commit: style, types and the fast tests
	@$(MAKE) --no-print-directory --jobs=2 lint test-fast

test-fast: install
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not (cluster or ray or mlflow or browser or slow)"

# Four chains at a time, the longest first: those that start Ray (a chain never sees another's) and those of servers and
# processes, which are mostly waiting, and the others, which take what cores are left; whoever ends first takes those of
# training. One that fails keeps none of the others from its end.
test: install  ## run all tests that can run on this machine
	@$(MAKE) --no-print-directory --keep-going --jobs=4 test-ray test-sweeps test-servers test-others test-training

# Each line says whose it is; what fails is remembered for each chain apart, for `make test-again`.
FAILED := .pytest_cache/failed
CHAINS := $(addprefix test-,ray sweeps servers others training cluster)
$(CHAINS): SHELL := /bin/bash
$(CHAINS): .SHELLFLAGS := -o pipefail -c
define chain
@mkdir -p $(FAILED) && touch $(FAILED)/$(1)
@$(3) $(BIN)/python -m pytest -o cache_dir=.pytest_cache/$(1) --durations=15 $(2) $(AGAIN) 2>&1 \
  | (trap '' INT; exec sed -u 's/^/$(1) | /')
@rm $(FAILED)/$(1)
endef

RAY = $(shell grep -rlE --include='*.py' '\bmark\.ray\b' tests)
SWEEPS := tests/cluster/test_sweep.py tests/cluster/test_one_ray.py tests/cluster/test_serve.py
test-ray: install
	$(call chain,ray,-m "ray and not cluster" $(filter-out $(SWEEPS),$(RAY)))

test-sweeps: install
	$(call chain,sweeps,-m "ray and not cluster" $(SWEEPS))

SERVERS := tests/cluster tests/storage tests/tracking
test-servers: install
	$(call chain,servers,-m "not (ray or cluster)" $(SERVERS))

test-others: install
	$(call chain,others,-m "not (ray or cluster)" $(SERVERS:%=--ignore=%) --ignore=tests/training,nice)

test-training: install
	$(call chain,training,-m "not (ray or cluster)" tests/training,nice)

# The one temporary folder of Ray that every host has.
test-cluster: install  ## run the tests over several simulated hosts; needs root on Linux and 8 GB of memory
	$(call chain,cluster,-m cluster,RAY_TMPDIR=/tmp)

test-again: install  ## run what failed in the last `make test` or `make test-cluster` again, with nothing beside it
	@for chain in $$(ls $(FAILED)); do \
	  $(MAKE) --no-print-directory test-$$chain AGAIN='--last-failed --last-failed-no-failures=all' || exit; \
	done

# Installs nothing: the machine may have no network. BIN=FOLDER/bin where a bundle was installed.
test-gpu:  ## run the tests that need a GPU; BIN=FOLDER/bin: with the environment of a bundle
	$(BIN)/python -m pytest -m gpu --durations=10

bundle: install  ## write an offline bundle: PYTHON_VERSION=3.12 HAVE=torch==2.11.0,numpy EXTRAS=cluster,test
	$(BIN)/python deploy/bundle.py --have '$(HAVE)' $(if $(EXTRAS),--extras '$(EXTRAS)') \
	  $(if $(PYTHON_VERSION),--python-version $(PYTHON_VERSION)) $(if $(OUTPUT),--output '$(OUTPUT)')

lint: install  ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

ui: install  ## show runs, images and models in the browser
	$(BIN)/sisr ui

constraints: install  ## write the installed versions to constraints.txt
	@{ sed -n '/^#/p' constraints.txt; { $(BIN)/python -m pip freeze --all --exclude-editable; \
	  grep -iE '^(DISTS-pytorch|pytorch-fid)==' constraints.txt; } | LC_ALL=C sort -f -u; } > .venv/constraints.txt
	@mv .venv/constraints.txt constraints.txt

clean:  ## remove .venv and everything built; keeps runs
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache platform/sisr.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
