# Two commands do everything: make demo, make test. make check and make bench are for who changes the code.
# Each installs what it needs into .venv; what comes from the system's packages is said.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: demo test vmtest check bench corpus fuzz pages clean

demo: $(VENV)/installed
	@sh examples/demo.sh $(BIN)/memfs

test: $(VENV)/dev tools
	$(BIN)/python -m pytest -n $(JOBS) tests

# Real kernels, booted in qemu: as root. VMTEST="-k areas -n0" for some of it.
vmtest: $(VENV)/vm tools
	@{ command -v qemu-system-x86_64 && command -v makedumpfile; } >/dev/null || \
	  sh tests/install-tools.sh qemu-system-x86 qemu-system-common seabios ipxe-qemu makedumpfile
	@[ -x /usr/lib/qemu/virtiofsd ] || [ -x /usr/libexec/virtiofsd ] || \
	  sh tests/install-tools.sh virtiofsd
	$(BIN)/python -m pytest -n $(JOBS) $(VMTEST) tests/vm

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check memfs tests bench tools
	$(BIN)/mypy --strict memfs
	$(BIN)/python -m pytest tests/test_layers.py

bench: $(VENV)/dev tools
	$(BIN)/python -m compileall -q memfs # of what was changed since: where PYTHONDONTWRITEBYTECODE is set, nobody else does
	$(BIN)/python bench/bench.py $(BENCH)

# tests/test_fuzz.py for longer, each time from another seed: make fuzz FUZZ=20000
fuzz: $(VENV)/dev
	@echo "an input that fails is left in .hypothesis/failed: name it for what it is, and keep it in tests/seeds"
	@seed=$$(date +%N) && echo "seed: $$seed" && CI= FUZZ=$(or $(FUZZ),20000) \
	  $(BIN)/python -m pytest -n $(JOBS) --hypothesis-seed=$$seed tests/test_fuzz.py

# Manual pages, completions and tables of the docs, out of the tables of the code: tests/test_pages.py holds them equal.
pages: $(VENV)/dev
	$(BIN)/python tools/pages.py

# Real cores of many systems, held against their oracles from outside, where ../shared has them.
corpus: $(VENV)/installed
	@sh tests/corpus.sh $(BIN)/memfs

examples/secret.core: examples/secret.c examples/make-core.sh
	sh examples/make-core.sh

.PHONY: tools
tools:
	@sh tests/install-tools.sh

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "memfs needs Python 3.11 or later; name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); sh tests/install-tools.sh python3-venv && $(PYTHON) -m venv $(VENV); }

$(VENV)/installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	$(BIN)/python -m compileall -q memfs
	@touch $@

$(VENV)/dev: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(VENV)/vm: $(VENV)/dev
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[vm]'
	@touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
