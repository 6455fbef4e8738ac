# One command for each job. Every target sets up what it needs, from a fresh clone, in .venv of this checkout.
SHELL := /bin/sh
python := .venv/bin/python
python_sources := $(wildcard src tests benchmarks examples tools)
cpp_sources := $(shell find core tests/native -name '*.h' -o -name '*.cpp')
workers := 2
sources := $(shell find core src -type f -not -name '*.pyc' -not -name '*.so') CMakeLists.txt pyproject.toml constraints.txt tools/setup

.DEFAULT_GOAL := help
.PHONY: help demo test versions lint format picture picture-diagnosis figures dist wheels bench bench-torch bench-watch bench-units bench-zoo bench-slope bench-peers zoo-env sanitize arm64 exhaustive clean

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 26

demo: .venv/installed-study ## train the study on real digits, print its table, write demo/study.html
	@mkdir -p demo
	.venv/bin/leakyrelu study --html demo/study.html --json demo/study.json

test: lint .venv-zoo/installed ## lint, then every test, in two processes side by side (workers=N: another number)
	OMP_WAIT_POLICY=passive $(python) -m pytest -n $(workers) --dist loadfile --no-loadscope-reorder

versions: .venv/installed-dev ## the PyTorch tests under each version that _compat.py names as tested (gigabytes a version)
	tools/versions

sanitize: .venv/installed-dev ## the core's tests under the address, undefined-behavior and thread sanitizers (5 minutes)
	tools/sanitize -q
	tools/battery threads

arm64: .venv/installed-dev ## the kernel battery on an emulated arm64 processor (needs g++-aarch64-linux-gnu, qemu-user)
	tools/battery arm64

exhaustive: .venv/installed-dev ## all 2^32 float32 values against PyTorch and NumPy (2 to 7 minutes; docs/proof.md)
	$(python) tests/native/exhaustive.py

lint: .venv/installed-dev ## format, lint, strict types, stubs, direction of imports, private names of PyTorch
	$(python) -m ruff format --check $(python_sources)
	$(python) -m ruff check $(python_sources)
	.venv/bin/clang-format --dry-run -Werror $(cpp_sources)
	$(python) tools/private_names.py
	$(python) -m mypy
	$(python) -m mypy.stubtest leakyrelu._core
	PYTHONPATH=src .venv/bin/lint-imports --no-cache

format: .venv/installed-dev ## write the format that lint checks
	$(python) -m ruff format $(python_sources)
	$(python) -m ruff check --fix $(python_sources)
	.venv/bin/clang-format -i $(cpp_sources)

picture: .venv/installed-study ## docs/study.png and docs/study.json: the study at its defaults, as the README shows it
	@mkdir -p build
	.venv/bin/leakyrelu study --png docs/study.png --json build/study.json
	$(python) -m benchmarks study build/study.json

picture-diagnosis: .venv/installed-all ## docs/ocr.png: a trained network from PyPI, as docs/diagnosis.md shows it
	$(python) -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target build/ocr rapidocr-onnxruntime==1.4.4
	$(python) examples/diagnose_ocr.py build/ocr docs/ocr.png

figures: .venv/installed-dev ## write the figures of README, docs and result tables from benchmarks/results
	$(python) -m benchmarks figures

bench: .venv/installed-bench ## measure here; results go to benchmarks/results
	$(python) -m benchmarks

bench-torch: .venv/installed-bench ## measure training, ours beside what PyTorch has (half an hour)
	$(python) -m pip install --quiet --no-deps dynamic-network-architectures timm # their dependencies replace torch
	$(python) -m benchmarks training

zoo-env: .venv/installed-bench .venv-zoo/installed ## .venv-zoo: libraries of networks that others wrote, for what is below

bench-watch: zoo-env ## what a census costs beside the network that it watches, and on networks that others wrote
	$(python) -m benchmarks census
	.venv-zoo/bin/python -m benchmarks watch

bench-units: zoo-env ## whether units are read along the right axis on networks that others wrote, beside an oracle
	.venv-zoo/bin/python -m benchmarks units

bench-zoo: zoo-env ## which pairs of normalization and Leaky ReLU save_memory joins in those networks, and what it changes
	.venv-zoo/bin/python -m benchmarks pairs

bench-slope: zoo-env ## similarity at every activation, predicted and measured; slopes chosen for those networks
	.venv-zoo/bin/python -m benchmarks slope
	.venv-zoo/bin/python -m benchmarks choices

bench-peers: .venv/installed-torch ## planted dead units, found by this package and by others (their versions pinned)
	tools/peers

dist: .venv/installed-dev ## sdist and wheel in dist/
	$(python) -m build --outdir dist .

wheels: ## wheels for every Python, by cibuildwheel (needs a container engine)
	pipx run cibuildwheel --output-dir dist

clean: ## remove what the targets made
	rm -rf .venv .venv-zoo build dist demo .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv-zoo/installed: .venv/installed-dev benchmarks/zoo/requirements.txt tools/setup-zoo
	tools/setup-zoo
	@touch $@

.venv/installed-%: $(sources)
	@tools/setup $*
	@touch $@
