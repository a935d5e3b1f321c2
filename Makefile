# One command from a fresh machine: `make compare`, `make test` or `make lint` each set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUTPUT ?= results/mnist-5k

export OMP_NUM_THREADS ?= 1

.PHONY: compare test long quick soak oldest pythons lint docs format clean vendor help

help:
	@echo "make compare   set up and run the head-to-head comparison on 5,000 MNIST images (about 12 minutes after set-up)"
	@echo "make test      set up and run the tests, but for the long ones (under ten minutes)"
	@echo "make long      set up and run the long tests: killed drivers, whole runs, every page and benchmark"
	@echo "make quick     set up and run the tests that need neither Ray nor training (under a minute)"
	@echo "make soak      faults at random while methods run, for 15 minutes (MINUTES=…)"
	@echo "make oldest    run them, and a few with Ray, with the oldest dependencies that setup.cfg allows"
	@echo "make pythons   run them with every Python from 3.10 to 3.13 that is at hand"
	@echo "make lint      set up and run ruff and mypy"
	@echo "make docs      set up and build the documentation into build/site"

# Bytecode is compiled at installation: it halves the start of every Ray worker for good.
$(VENV)/.installed: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade uv
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --compile-bytecode --editable '.[all]'
	touch $@

compare: $(VENV)/.installed
	$(BIN)/hyperlearn compare --problem mnist-5k --concurrent 2 --output $(OUTPUT)

# Two processes: one for all tests that use Ray, one for the others.
test: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup -m "not long"

long: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup -m long

QUICK := tests/algorithms/test_schedules.py tests/algorithms/test_curves.py tests/algorithms/test_sampler.py \
	tests/algorithms/test_sign_descent.py tests/algorithms/test_arbiter_agent.py tests/derivatives/test_micro_batches.py \
	tests/problems/test_problem.py tests/problems/test_losses.py tests/problems/test_models.py \
	tests/comparison/analysis tests/comparison/test_experiment.py tests/comparison/test_records.py \
	tests/test_checked.py tests/test_hyperparameters.py

WITH_RAY := tests/tune/test_scheduler.py tests/baselines/test_tune_runs.py tests/comparison/test_head_to_head.py

quick: $(VENV)/.installed
	$(BIN)/python -m pytest $(QUICK)

# Faults at random while methods run on a small cluster; the table goes to build/soak.md.
MINUTES ?= 15
soak: $(VENV)/.installed
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

# Tests in an environment of their own, build/$(1): Python $(2), versions of the dependencies as $(3) says, tests $(4).
# A shim of pyenv stands for the versions that PYENV_VERSION names, so all are named. Each takes gigabytes while it runs.
define elsewhere
	PYENV_VERSION="$$(pyenv versions --bare 2>/dev/null | paste -sd: -)" \
		$(BIN)/uv venv --quiet --clear --python $(2) build/$(1) || { echo "Python $(2) is not at hand: left out"; exit 0; }; \
	VIRTUAL_ENV=build/$(1) $(BIN)/uv pip install --quiet $(3) --editable '.[baselines,report,test]' && \
	build/$(1)/bin/python -m pytest $(4) && \
	rm -rf build/$(1)
endef

oldest: $(VENV)/.installed
	$(call elsewhere,oldest,3.10,--resolution lowest-direct,$(QUICK) $(WITH_RAY))

pythons: python-3.10 python-3.11 python-3.12 python-3.13
python-%: $(VENV)/.installed
	$(call elsewhere,python-$*,$*,,$(QUICK))

# mypy cannot see through the editable install's mapping of baselines/, so it reads a linked copy of the installed layout.
lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/typecheck && mkdir -p build/typecheck
	cp -rs "$(CURDIR)/raytune_hyperlearn" build/typecheck/raytune_hyperlearn
	cp -rs "$(CURDIR)/baselines" build/typecheck/raytune_hyperlearn/baselines
	cd build/typecheck && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p raytune_hyperlearn

docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The library that draws the report's figures: one file of 51 kB, kept in the package so that pages work offline.
UPLOT := 1.6.32
REPORTING := raytune_hyperlearn/comparison/reporting/vendor
vendor:
	rm -rf build/vendor && mkdir -p build/vendor
	cd build/vendor && npm pack --silent uplot@$(UPLOT) && tar xzf uplot-$(UPLOT).tgz
	cp build/vendor/package/dist/uPlot.iife.min.js build/vendor/package/dist/uPlot.min.css $(REPORTING)/
	cp build/vendor/package/LICENSE $(REPORTING)/uPlot.LICENSE

clean:
	rm -rf build $(VENV)
