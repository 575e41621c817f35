# Needs only make (3.81 or newer) and Python (3.11 or newer). `make` without a target lists the targets.

VENV = .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
FAILED = "Installation failed for the reason above. If it is the network, run make again later."
export PYTHON

help:
	@echo "make demo      upscale a real clip with and without references, and write a report"
	@echo "make test      run the tests                  make test ARGS='-k warp' for some of them"
	@echo "make install   install the command ldip into $(VENV): $(BIN)/ldip --help"
	@echo "make lint      check style and types"
	@echo "make clean     remove $(VENV), caches and builds; keep results in demo and runs"
	@echo "To use another Python than the first suitable one: PYTHON=python3.12 make test"

demo: $(VENV)/.installed
	@$(BIN)/ldip demo $(ARGS)

test: $(VENV)/.installed-test
	@echo "Running the tests"
	@$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder $(ARGS)

install: $(VENV)/.installed
	@echo "Ready: $(BIN)/ldip --help"

lint: $(VENV)/.installed-dev
	@echo "Checking style, then types"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright --pythonpath $(BIN)/python

clean:
	@echo "Removing $(VENV), caches and builds"
	@rm -rf $(VENV) .pytest_cache .ruff_cache build dist
	@find . -name __pycache__ -prune -exec rm -rf {} +

venv: $(VENV)/.made

$(VENV)/.installed: $(VENV)/.made pyproject.toml
	@echo "Installing ldip and its dependencies into $(VENV): a minute or two, about 900 MB on disk"
	@$(PIP) --editable . || { echo $(FAILED) >&2; exit 1; }
	@touch $@

$(VENV)/.installed-%: $(VENV)/.made pyproject.toml
	@echo "Installing ldip, its dependencies and its '$*' extra into $(VENV): a minute or two"
	@$(PIP) --editable ".[$*]" || { echo $(FAILED) >&2; exit 1; }
	@touch $@

# The stamp holds the folder in which the environment was made (it cannot be moved), then the Python version.
$(VENV)/.made:
	@if [ -z "$$PYTHON" ] && [ ! -e $@ ] && $(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  echo "Using the existing virtual environment in $(VENV)"; \
	  { pwd -P; $(BIN)/python -c 'import sys; print(sys.version_info[:3])'; } > $@; \
	  exit; \
	fi; \
	set -- python3.13 python3.12 python3.11 python3 python; \
	if [ -n "$$PYTHON" ]; then set -- "$$PYTHON"; fi; \
	found=; bare=; \
	for python in "$$@"; do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  if "$$python" -c 'import ensurepip, venv' 2>/dev/null; then found=$$python; break; fi; \
	  bare=$${bare:-$$python}; \
	done; \
	if [ -z "$$found" ] && [ -n "$$bare" ]; then \
	  echo "$$bare cannot make virtual environments. Install its venv module (Debian, Ubuntu: sudo apt install" \
	    "python3-venv) and run make again, or choose another Python: PYTHON=/path/to/python3 make ..." >&2; \
	  exit 1; \
	elif [ -z "$$found" ]; then \
	  echo "No Python 3.11 or newer found (tried $$*). Install one (python.org, or your package manager)" \
	    "or give its path: PYTHON=/path/to/python3 make ..." >&2; \
	  exit 1; \
	fi; \
	echo "Making a virtual environment in $(VENV) with $$("$$found" --version)"; \
	rm -rf $(VENV); \
	"$$found" -m venv $(VENV) || exit 1; \
	{ pwd -P; "$$found" -c 'import sys; print(sys.version_info[:3])'; } > $@

# The environment is made again if it no longer works, was made in another folder, or with another Python than PYTHON.
ifneq ($(wildcard $(VENV)/.made),)
STALE := $(shell { pwd -P; "$(or $(PYTHON),$(BIN)/python)" -c 'import sys; print(sys.version_info[:3])'; } \
  2>/dev/null | cmp -s - $(VENV)/.made && $(BIN)/python -c '' 2>/dev/null || echo stale)
ifneq ($(STALE),)
$(VENV)/.made: FORCE
endif
endif

.PHONY: help demo test install lint clean venv FORCE
.DELETE_ON_ERROR:
