# make demo        the whole experiment in miniature: about 6 minutes on 2 cores, then open out/quickstart/report.html
# make test        the default test suite, in WORKERS processes (2; each takes up to 4 GiB)
# make test-long   the long tests; writes results/test-long.json
# make lint        ruff and mypy
# make notebooks   runs the notebooks and keeps what they show; SCALING_DATA_DIR names the folder of public tables
# make docs        the pages and an API reference as a site in out/site
# make clean       removes .venv and out/
# make help        this
#
# Each target makes .venv and installs on its first call. PYTHON chooses the interpreter (3.11 or newer).

PYTHON ?= python3
OUT ?= out/quickstart
WORKERS ?= 2
VENV := .venv
RUN := $(VENV)/bin/python

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

.PHONY: help demo test test-long lint docs notebooks clean
.DELETE_ON_ERROR:

# Made anew whenever what is to be installed changes, and only then.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("ecg-jax needs Python 3.11 or newer; this is %d.%d. Say which: make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps neurokit2==0.2.13
	@touch $@

# XLA frees a step's scratch memory after every step on a CPU; glibc would hand it back to the system each time.
demo: export MALLOC_ARENA_MAX = 1
demo: export MALLOC_MMAP_MAX_ = 0
demo: export MALLOC_TRIM_THRESHOLD_ = -1
demo: $(VENV)/.installed
	$(RUN) -m experiments.quickstart --out $(OUT)

# A worker that dies ends the run: one that takes its place can leave it waiting for ever.
test: $(VENV)/.installed
	$(RUN) -m pytest --numprocesses $(WORKERS) --dist loadfile --max-worker-restart 0

test-long: $(VENV)/.installed
	$(RUN) -m tests.long

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(VENV)/.installed
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet

notebooks: $(VENV)/.installed
	$(RUN) notebooks/execute.py

clean:
	rm -rf $(VENV) out
