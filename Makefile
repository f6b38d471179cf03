# `make train` and `make test` do all of their own set-up: Python >= 3.11 and make are enough. `make help` lists the rest.
# Every path is relative, so a checkout may lie in a directory with a space in its name.

WORKDIR ?= runs/digits
CONFIG ?= configs/digits.py
ARGS ?=

# The interpreter that makes .venv: the first one that is new enough. (`true`, since make drops what a shell printed
# that ended with "not found".)
PYTHON ?= $(firstword $(shell for name in python3 python python3.14 python3.13 python3.12 python3.11; do \
  "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name"; done; true) python3)

# The JAX build: the one asked for, else the one .venv already has, else cuda where nvidia-smi answers, else cpu.
INSTALLED := $(shell cat .venv/accelerator 2>/dev/null)
ifndef ACCELERATOR
  ACCELERATOR := $(or $(INSTALLED),$(shell nvidia-smi >/dev/null 2>&1 && echo cuda || echo cpu))
endif
JAX_cpu := jax
JAX_cuda := jax[cuda13]
JAX_tpu := jax[tpu]
ifndef JAX_$(ACCELERATOR)
  $(error ACCELERATOR is '$(ACCELERATOR)'; choose cpu, cuda or tpu)
endif

RUN := .venv/bin/python
# A file of tests stays in one process, so that it compiles what its tests share once.
PYTEST := $(RUN) -m pytest --numprocesses=2 --dist=loadfile
.DEFAULT_GOAL := help
.PHONY: help train report test test-slow test-all lint .venv clean FORCE

help: ## list the targets
	@echo "make TARGET [ACCELERATOR=cpu|cuda|tpu] [PYTHON=python3.12] [WORKDIR=$(WORKDIR)] [CONFIG=$(CONFIG)] [ARGS=...]"
	@sed -n 's/^\([a-z.][a-z-]*\):.*## /  \1\t/p' Makefile | expand -t 14

# Larger pages for the memory that XLA asks for anew in every step: a seventh of the time on a CPU (docs/speed.md).
train: export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
train: .venv/accelerator ## train CONFIG into WORKDIR; ARGS="--config.seed=1 ..." overrides settings
	@$(RUN) train.py --config="$(CONFIG)" --workdir="$(WORKDIR)" $(ARGS)

report: .venv/accelerator ## draw the figures of WORKDIR again from its files, and make its page
	@$(RUN) -m convattn report --workdir="$(WORKDIR)"

test: .venv/accelerator ## the fast tests
	@$(PYTEST) -m "not slow" $(ARGS)

test-slow: .venv/accelerator ## the longer tests
	@$(PYTEST) -m slow $(ARGS)

test-all: .venv/accelerator ## the fast and the longer tests
	@$(PYTEST) -m "slow or not slow" $(ARGS)

lint: .venv/accelerator ## ruff and mypy
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy convattn

.venv: .venv/accelerator ## the environment alone, from requirements.txt

# Made anew when requirements.txt is newer, or another JAX build or Python is asked for. The name of the build is written
# last, so that an interrupted installation starts over. --use-pep517 for promise, which comes as sources without a
# pyproject.toml: an older pip would build it in a way that it calls deprecated.
ifneq ($(INSTALLED),$(ACCELERATOR))
  ANEW := FORCE
else ifneq ($(filter command environment,$(origin PYTHON)),)
  ANEW := $(if $(filter-out $(shell $(RUN) --version),$(shell "$(PYTHON)" --version)),FORCE)
endif
.venv/accelerator: requirements.txt $(ANEW)
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "$(PYTHON) is $$("$(PYTHON)" --version 2>/dev/null || echo not found), but convattn needs Python 3.11 or newer:" \
	    "make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@echo "Making .venv with $$("$(PYTHON)" --version) and JAX for $(ACCELERATOR), as requirements.txt pins them; this takes a few minutes."
	@"$(PYTHON)" -m venv --clear .venv
	@$(RUN) -m pip install --quiet --disable-pip-version-check --use-pep517 -r requirements.txt "$(JAX_$(ACCELERATOR))"
	@echo $(ACCELERATOR) > .venv/accelerator

clean: ## remove .venv and caches; runs/ stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .cache build dist convattn.egg-info
