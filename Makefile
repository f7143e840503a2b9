# `make` or `make help` lists what there is. Two commands are all a newcomer needs: book and test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
# TORCH=cpu takes PyTorch's build without CUDA from PyTorch's own index, where files have other hashes.
TORCH ?= cuda
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
QUIET ?= -qq
PIP = $(BIN)/python -m pip install $(QUIET) --disable-pip-version-check
CPU_TORCH = --extra-index-url $(TORCH_INDEX) -c constraints.txt torch torchvision
SIZE = $(if $(filter cpu,$(TORCH)),1.9 GB,5.7 GB)
# Unit tests are many small tensors: one thread is faster than several, and repeatable. Two
# processes fill two cores; a file stays in one, for the fixtures that it shares.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -rs
TWO := -n 2 --dist loadfile
NBVAL := -c tests/nbval.cfg --nbval-sanitize-with tests/nbval.cfg --rootdir .
# make paper trains with .venv where it is installed, and else with any Python that has torch.
TRAINER = $(if $(wildcard $(INSTALLED)),$(BIN)/python,$(PYTHON))
CAN_TRAIN = $(TRAINER) -c 'import filelock, numpy, torch, torchvision, typer' 2>/dev/null || { \
    echo "$(TRAINER) lacks what training needs: $(TRAINER) -m pip install ." >&2; exit 1; }
CAMPAIGN = env PYTHONPATH=src OMP_NUM_THREADS=1 $(TRAINER) -m companion campaign --device cpu --records $(RECORDS)
RECORDS ?= records
WORKERS ?= 2
SCHEDULER ?=
SEEDS ?= 5
TIME_LIMIT ?= 0
CIFAR10 ?= torchvision

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install pins book test site paper gpu campaign faults publish lint clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## make .venv with the exact files of requirements.txt (TORCH=cpu: no CUDA)

# The stamp is written last, so an interrupted install is never taken for a finished one, and
# `installing` left behind by one means that the environment can't be trusted: start over.
$(INSTALLED): pyproject.toml constraints.txt requirements.txt
	@case "$(TORCH)" in cpu|cuda) ;; *) echo "TORCH=$(TORCH): it is cuda or cpu" >&2; exit 1;; esac
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1)." \
	        "Choose another one with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@if [ -e $(VENV)/installing ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	    echo "Making $(VENV) with $$($(PYTHON) -V)"; \
	    $(PYTHON) -m venv --clear $(VENV) || { echo "The venv module does not work;" \
	        "on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; fi
	@echo "Installing the files that requirements.txt has the hashes of into $(VENV)" \
	    "($(SIZE) on disk; a few minutes the first time)"
	@touch $(VENV)/installing
	@awk '/^[a-z]/ {keep = "$(TORCH)" != "cpu" || !/^(torch|triton|cuda-|nvidia-)/} keep' \
	    requirements.txt >$(VENV)/pins.txt
	@{ $(PIP) --require-hashes -r $(VENV)/pins.txt && \
	    $(if $(filter cpu,$(TORCH)),$(PIP) $(CPU_TORCH) &&) \
	    $(PIP) --no-deps --no-build-isolation -e .; } || { \
	    echo "The installation failed; to see why: make install TORCH=$(TORCH) QUIET=" >&2; exit 1; }
	@rm $(VENV)/installing
	@touch $@

# uv follows the pins for every Python and system at once, and looks up the hashes.
pins:  ## write requirements.txt, the hashes of the versions in constraints.txt (needs uv)
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	    --no-header --extra dev --constraints constraints.txt --output-file requirements.txt \
	    pyproject.toml

book: $(INSTALLED)  ## train the quick profile, execute every chapter, build the site
	@echo "Training the quick profile, executing every chapter, building the site (a few minutes)"
	@$(BIN)/wrnn book --profile quick

test: $(INSTALLED)  ## unit tests, smoke run of every chapter, nbval on the committed ones, the site
	@echo "1/4 Unit tests"
	@$(PYTEST) $(TWO) --ignore tests/test_site.py
	@echo "2/4 Every chapter trained and executed with the smoke profile, with nothing recorded"
	@WRNN_RECORDS=_build/nothing-recorded $(BIN)/wrnn book --profile smoke
	@echo "3/4 The committed chapters, executed again and compared output by output (nbval)"
	@$(PYTEST) $(TWO) $(NBVAL) book
	@echo "4/4 The built site in Chromium, with the network off"
	@$(PYTEST) tests/test_site.py

site: $(INSTALLED)  ## build the site from the committed chapters, without training
	@$(BIN)/wrnn book --build-only

paper:  ## train everything at the paper's size on CUDA; stop it, call it again: it resumes
	@$(CAN_TRAIN)
	@PYTHONPATH=src $(TRAINER) -m companion run all --profile paper --device cuda \
	    --records $(RECORDS) --seeds $(SEEDS) --time-limit $(TIME_LIMIT) --cifar10 $(CIFAR10)

gpu:  ## a GPU's first hour: tests, benchmark, paper's runs within TIME_LIMIT seconds, one tar
	@$(CAN_TRAIN)
	@PYTHONPATH=src $(TRAINER) -m companion gpu --seeds $(SEEDS) --time-limit $(TIME_LIMIT) \
	    --cifar10 $(CIFAR10)

# Dask starts the workers, or finds them at SCHEDULER, on this machine or on others.
campaign:  ## train what a CPU reaches of the paper, WORKERS processes; stop and repeat at any time
	@$(CAN_TRAIN)
	@$(CAMPAIGN) --left
	@exec nice -n 19 $(CAMPAIGN) --time-limit $(TIME_LIMIT) --executor dask \
	    $(if $(SCHEDULER),--scheduler $(SCHEDULER),--workers $(WORKERS))

faults: $(INSTALLED)  ## inject two thousand faults and twenty thousand bad inputs; counts to records/faults
	@OMP_NUM_THREADS=1 $(BIN)/python tests/faults/harness.py --long --json records/faults/faults.json

publish: $(INSTALLED)  ## execute the committed chapters again from the committed records
	@WRNN_STRICT=1 $(BIN)/wrnn book --profile paper --publish

lint: $(INSTALLED)  ## ruff: errors, then format; mypy: types of the small package
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary

clean:  ## remove what was made here (_build with its records, caches); .venv and records/ stay
	@rm -rf _build .mypy_cache .pytest_cache .ruff_cache
	@find src tests notebooks book \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune \
	    -exec rm -rf {} +
