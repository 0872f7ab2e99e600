# Each target is one script call that is printed and could be typed. `make help` lists them.
SHELL := /bin/sh
PYTHON ?= python3
DATASET ?= digits
TRUNK ?= alexnet-cifar
VIEWS ?= plain
HEAD ?= fullnet
CROPS ?= ten
IMAGE_PX ?=
IMAGES ?=
EXTRACTED = --dataset '$(DATASET)' --trunk '$(TRUNK)' --views '$(VIEWS)'$(if $(IMAGE_PX), --image-px $(IMAGE_PX))
TRAINED = --cache '$(CACHE)' --head $(HEAD) --crops $(CROPS)
# the folders that the scripts take by default
WHERE = $(PY) -c 'import sys; from pipeline.cli import tencrop; sys.exit(tencrop())' where
CACHE ?= $(shell $(WHERE) extract $(EXTRACTED))
RUN ?= $(shell $(WHERE) train $(TRAINED))
ARGS ?=

PY := .venv/bin/python
INSTALLED := .venv/.installed
# three, for many tests wait; their scripts find compiled modules, whatever the shell says; a test that hangs
# fails after ten minutes, and says where it was
TESTS := PYTHONDONTWRITEBYTECODE= $(PY) -m pytest -n 3 --dist worksteal --cov --cov-report= \
  -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true

.PHONY: help setup demo demo-multilabel demo-photos test faults mutants pretrain run extract train-head eval predict export-model compare-trunks report ablate ablate-attention verify check format lock bench clean clean-artifacts

help:  ## list the targets and the variables
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14
	@echo
	@echo 'Variables: DATASET=$(DATASET) TRUNK=$(TRUNK) VIEWS=$(VIEWS) IMAGE_PX=$(IMAGE_PX) HEAD=$(HEAD) CROPS=$(CROPS)'
	@echo '           IMAGES: photos, folders and patterns, for make predict'
	@echo '           CACHE, RUN: the folders that the scripts choose for these, unless given'
	@echo '           ARGS="any further flags of the script; see SCRIPT --help"'

setup: $(INSTALLED)  ## install into .venv what requirements.lock names

$(INSTALLED): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python 3.11 or newer is needed, found:' >&2; $(PYTHON) --version >&2; \
	    echo 'name another: make PYTHON=python3.12 ...' >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@touch $@

demo: setup  ## digits from images to a table, 1 to 2 minutes on two cores
	$(PY) extract_features.py --dataset digits --cache artifacts/demo/cache
	$(PY) train_head.py --cache artifacts/demo/cache --crops ten --out artifacts/demo/ten
	$(PY) train_head.py --cache artifacts/demo/cache --crops center --out artifacts/demo/center
	$(PY) train_head.py --cache artifacts/demo/cache --crops full --out artifacts/demo/full
	$(PY) evaluate.py --run artifacts/demo/ten artifacts/demo/center artifacts/demo/full --out artifacts/demo/comparison.json

demo-multilabel: setup  ## scenes of several digits: attention beside pooling, and where it looked; 4 to 7 minutes
	$(PY) extract_features.py --dataset scenes --image-px 64 --cache artifacts/demo/scenes
	$(PY) train_head.py --cache artifacts/demo/scenes --head gap gmp csra --crops full --lr 0.3 --out artifacts/demo/pooling
	$(PY) train_head.py --cache artifacts/demo/scenes --head recurrent-attention --crops full --hidden 128 --localisation 1 --dropout 0.1 --weight-decay 1e-2 --epochs 12 --out artifacts/demo/attention
	$(PY) evaluate.py --run artifacts/demo/attention $(addprefix artifacts/demo/pooling/,gap-full gmp-full csra-full) --show-regions 16 --out artifacts/demo/multilabel.json

CELLS := elpv_dataset-1.0.0.post1-py3-none-any.whl

demo-photos: setup artifacts/photos/$(CELLS)  ## 2,223 photos of solar cells: five heads, predictions, a model; under 5 minutes
	$(PY) -m experiments.solar_cells --wheel artifacts/photos/$(CELLS) --out artifacts/photos/cells
	$(PY) extract_features.py --dataset folder:artifacts/photos/cells --trunk efficientnet-lite0 --cache artifacts/photos/cache
	$(PY) train_head.py --cache artifacts/photos/cache --head logistic knn gmp csra fullnet --hidden 64 --epochs 10 --out artifacts/photos/heads
	$(PY) evaluate.py --run artifacts/photos/heads
	$(PY) predict.py --run artifacts/photos/heads artifacts/photos/cells/test/*/cell012*.png --out artifacts/photos/predictions.csv
	$(PY) export_model.py --run artifacts/photos/heads --out artifacts/photos/model.onnx

artifacts/photos/$(CELLS): $(INSTALLED)  # 91 MB of photographs, CC BY-NC-SA 4.0: never shipped, not for commercial use
	$(PY) -m pip download --quiet --disable-pip-version-check --no-deps --dest $(@D) elpv-dataset==1.0.0.post1
	@touch $@

pretrain: setup  ## train the trunk as a whole network (DATASET=cifar10)
	$(PY) pretrain_trunk.py --dataset '$(DATASET)' --trunk '$(TRUNK)' $(ARGS)

run: setup  ## all three stages in one process: images -> CACHE -> RUN -> scores
	$(PY) run.py $(EXTRACTED) --cache '$(CACHE)' --head $(HEAD) --crops $(CROPS) --out '$(RUN)' $(ARGS)

extract: setup  ## stage one: images -> trunk -> CACHE
	$(PY) extract_features.py $(EXTRACTED) --cache '$(CACHE)' $(ARGS)

train-head: setup  ## stage two: CACHE -> crops -> head -> RUN
	$(PY) train_head.py $(TRAINED) --out '$(RUN)' $(ARGS)

eval: setup  ## score RUN on the test split
	$(PY) evaluate.py --run '$(RUN)' $(ARGS)

predict: setup  ## classes of the photos in IMAGES by RUN's head
	$(PY) predict.py $(IMAGES) --run '$(RUN)' $(ARGS)

export-model: setup  ## write RUN and its trunk as one model, RUN/model.onnx
	$(PY) export_model.py --run '$(RUN)' $(ARGS)

compare-trunks: setup  ## which trunk, which layer? ARGS="--dataset folder:PHOTOS --trunk A B@LAYER"
	$(PY) compare_trunks.py $(ARGS)

report: setup  ## one page about all runs, artifacts/report.html
	$(PY) report.py $(ARGS)

ablate: setup  ## does ten-crop help? every crop, seed and regime
	$(PY) -m experiments.crops $(ARGS)

ablate-attention: setup  ## does attention help on several labels? every head, 1 to 8 regions, constraints
	$(PY) -m experiments.attention $(ARGS)

verify: setup  ## check every block of CACHE against its digest
	$(PY) -m cache verify '$(CACHE)' $(ARGS)

bench: setup  ## benchmarks: a table and artifacts/bench.json; goes on when run again; ARGS=--page makes docs/benchmarks.md
	$(PY) -m benchmarks $(ARGS)

test: setup  ## the tests, in three processes; records which lines they reach
	$(TESTS)

faults: setup  ## the long fault injections
	$(PY) -m pytest -m 'fault or faults' $(ARGS)

mutants: setup  ## break the code in one place at a time and see that a test notices (an hour for all)
	PYTHONPATH=tests $(PY) -m mutants $(ARGS)

check: setup .coverage  ## lint, types, and line coverage of the last tests
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright --threads 2
	$(PY) -m coverage report --include='cache/*' --fail-under=95
	$(PY) -m coverage report --include='pipeline/*' --fail-under=85

.coverage: $(INSTALLED) $(shell find cache pipeline tests -name '*.py')
	$(TESTS)

format: setup  ## rewrite to the format that check wants
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

lock: setup  ## pin requirements.lock anew from pyproject.toml
	$(PY) -m pip install --quiet uv
	$(PY) -m uv pip compile --quiet --universal --no-annotate --python-version 3.11 --extra dev \
	  --custom-compile-command 'make lock' --output-file requirements.lock pyproject.toml

clean:  ## remove what tools left; caches and runs stay
	rm -rf .coverage .pytest_cache .ruff_cache .hypothesis build dist *.egg-info

clean-artifacts:  ## remove artifacts/: every cache, run and downloaded dataset
	rm -rf artifacts
