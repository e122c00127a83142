# `make demo` and `make test` do all the set-up on a fresh machine: a virtual environment, and in it the package.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEEPSPEED := $(VENV)/deepspeed

# Where the lowest versions that pyproject.toml promises are tried. On Linux the package index has torch of that version
# as a CUDA build of several GB: OLDEST_TORCH=2.13.0 tries all but torch.
OLDEST := .venv-oldest
OLDEST_TORCH ?= $(shell sed -n 's/^torch==//p' constraints-oldest.txt)
OLDEST_TESTS := tests/oldest tests/training/test_upstream.py tests/tasks/test_question_answering.py

.PHONY: demo test test-long test-deepspeed test-oldest check docs install install-oldest clean

demo: install
	$(BIN)/ted demo

test: check
	$(BIN)/python -m pytest -n 2 --dist worksteal -q

# With WITHOUT=tests/fuzz, all but the search for inputs that break something, which takes longest.
test-long: install
	$(BIN)/python -m pytest -n 2 -q -m long $(WITHOUT:%=--ignore=%)
	$(MAKE) test-deepspeed

# DeepSpeed, built for the torch that is there, beside the environment: other tests are to run without it. Where it
# cannot be built, its tests are skipped, and pytest's exit code 5 says that none ran.
test-deepspeed: install
	-[ -e $(DEEPSPEED) ] || $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --target $(DEEPSPEED) \
		-c constraints.txt deepspeed hjson py-cpuinfo ninja msgpack einops
	PATH=$(abspath $(DEEPSPEED))/bin:$$PATH PYTHONPATH=$(DEEPSPEED) \
		$(BIN)/python -m pytest -q -m long tests/stages/test_deepspeed.py || [ $$? = 5 ]

# Old versions of others may warn of what they use themselves.
test-oldest: install-oldest
	$(OLDEST)/bin/python -m pytest -q -W ignore::DeprecationWarning $(OLDEST_TESTS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: install
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build
	@echo docs/_build/index.html

install: $(VENV)/.installed

# torch first and by its tested version: pip then takes the CPU build where one is provided.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

install-oldest: $(OLDEST)/.torch-$(OLDEST_TORCH)

$(OLDEST)/.torch-$(OLDEST_TORCH): pyproject.toml constraints-oldest.txt
	rm -rf $(OLDEST)
	$(PYTHON) -m venv $(OLDEST)
	sed 's/^torch==.*/torch==$(OLDEST_TORCH)/' constraints-oldest.txt > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --upgrade pip
	$(OLDEST)/bin/python -m pip install --quiet -c $(OLDEST)/constraints.txt -e . pytest
	touch $@

clean:
	rm -rf $(VENV) $(OLDEST)
