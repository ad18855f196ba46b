# The entrance. Each line calls an ordinary tool; scripts/setup.sh says what it installs, and looks before it does.

BIN := .venv/bin

.PHONY: demo test lint bench wheel

demo:
	@scripts/setup.sh
	$(BIN)/edgeq run examples/efficientnet_lite0 --target rpi4

test:
	@scripts/setup.sh --tests
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile

lint:
	@scripts/setup.sh
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench:
	@scripts/setup.sh
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/requirements.txt
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/run_speed.py
	$(BIN)/python benchmarks/run_build.py
	$(BIN)/python benchmarks/run_push.py
	$(BIN)/python benchmarks/run_trust.py
	$(BIN)/python benchmarks/run_overhead.py
	$(BIN)/python benchmarks/run_instructions.py

wheel:
	@scripts/setup.sh
	$(BIN)/python -m build
