# Two commands on a fresh machine with git, make, Python 3.11+ and a package index: make demo, make test.
# Both make their own environment (.venv) first; scripts/setup_env.py tells what steers that.
VENV := $(abspath $(or $(PEFT_EVAL_VENV),.venv))
BIN := $(VENV)/bin
PYTEST_ARGS ?=
# Without its cache of compiled modules, Python compiles torch, transformers and vLLM anew at every start: 10 seconds each.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test lint env clean clean-env

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

demo: env ## train a LoRA on the embedded corpus, evaluate base and adapter with lm_eval on vLLM, compare
	@$(BIN)/python scripts/demo.py

test: env ## run all tests, those with a real vLLM engine included (PYTEST_ARGS="-k word" for some)
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: env ## ruff (rules and format) and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

env: ## make or update the environment, if it is not current
	@scripts/setup_env.sh

clean: ## remove caches, builds and the demo's results
	@rm -rf build dist runs/demo .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -type d -prune -exec rm -rf {} +

clean-env: ## remove the environment, so that the next make starts afresh
	@rm -rf $(VENV) $(VENV).lock
