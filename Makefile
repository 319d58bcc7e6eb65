# make demo | test | lint | bench     Set-up is part of every target: .venv, pinned packages, build.
# make wheel-check | matrix     sdist, wheel and a fresh environment; every Python and torch to be had.
# make gpu-report [OUT=gpu-report] [PYTHON=python3]     No set-up: PYTHON has torch with CUDA, see CONTRIBUTING.md.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
TORCH ?= torch==2.13.0
DEMO ?= demo
OUT ?= gpu-report
export RLSV_FAST_CUDA ?= auto

.PHONY: demo test lint bench wheel-check matrix gpu-report clean
.DELETE_ON_ERROR:

demo: $(VENV)/built
	$(RUN) -m rlsv_fast demo --out $(DEMO)

test: $(VENV)/tests
	$(RUN) tests/run.py

lint: $(VENV)/linters
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/clang-format --dry-run --Werror $(wildcard csrc/*.h csrc/*.cpp csrc/*/*.cpp csrc/*/*.h csrc/*/*.cu csrc/*/*.cuh tests/cusim/*.cpp tests/cusim/*.h tests/cusim/include/*.h)
	$(VENV)/bin/mypy

bench: $(VENV)/tests
	$(RUN) -m pytest benchmarks --benchmark-json=benchmarks/results/latest.json
	$(RUN) benchmarks/report.py benchmarks/results/latest.json

wheel-check: $(VENV)/packages
	$(RUN) -m pip install --quiet "build>=1.2"
	TORCH="$(TORCH)" $(RUN) tests/packaging/wheel_check.py --out benchmarks/results/packaging

matrix: $(VENV)/built
	$(RUN) tests/packaging/matrix.py --out benchmarks/results/packaging

gpu-report:
	@$(PYTHON) benchmarks/gpu_report.py --out "$(OUT)"

# torch first and pinned: the extension compiles against the torch that it will run with.
$(VENV)/packages: pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet "$(TORCH)" "setuptools>=77" "pybind11>=2.12" ninja wheel
	touch $@

$(VENV)/built: $(VENV)/packages setup.py $(wildcard csrc/* csrc/*/*)
	$(RUN) -m pip install --quiet --no-build-isolation -e ".[stems,resample,report,umss]"
	touch $@

$(VENV)/tests: $(VENV)/built
	$(RUN) tests/packaging/extra.py test > $(VENV)/test.txt
	$(RUN) -m pip install --quiet -r $(VENV)/test.txt
	touch $@

$(VENV)/linters: $(VENV)/built
	$(RUN) tests/packaging/extra.py lint > $(VENV)/lint.txt
	$(RUN) -m pip install --quiet -r $(VENV)/lint.txt
	touch $@

clean:
	rm -rf build rlsv_fast/*.so $(VENV)/built $(VENV)/tests $(VENV)/linters
