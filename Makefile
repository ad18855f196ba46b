# The entrance. Each line calls an ordinary tool; scripts/setup.sh says what it installs, and looks before it does.

BIN := .venv/bin

# Where image-check puts the roots of the images; it takes some 10 GB.
IMAGES := /var/tmp/edgeq-images

.PHONY: demo test lint bench image-check wheel

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

# Without an engine: the steps of docker/Dockerfile in chroots, then what docker/compose.yaml runs. It takes root.
# The archive of Debian and torch's index are the machine's own, as a chroot borrows these.
image-check:
	@scripts/setup.sh --tests
	$(BIN)/python docker/chroot flow docker/compose.yaml --into $(IMAGES) \
	    --build-arg DEBIAN_SNAPSHOT= --build-arg EDGEQ_TORCH_INDEX=
	$(BIN)/python docker/chroot build docker/Dockerfile --into $(IMAGES) --target runners \
	    --build-arg DEBIAN_SNAPSHOT= --build-arg EDGEQ_TORCH_INDEX=
	$(BIN)/python docker/chroot run $(IMAGES)/images/Dockerfile/example -- edgeq --version
