# Everything happens in .venv; the first target that needs it makes it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOAKS := soak-power soak-io soak-bits soak-full soak-full-disks soak-kill soak-sigterm soak-schedules \
    soak-moments soak-followers soak-values soak-dearest soak-floods
SLOW := $(addprefix tests/process/test_,$(addsuffix .py, \
    backup \
    clock \
    controls \
    dearest \
    demo \
    disk_full \
    early_signals \
    floods \
    memory_bound \
    odd_files \
    odd_values \
    own_backend \
    owners \
    recipes \
    scheduled_backup \
    sigterm \
    soak \
    updates))
PROJECTS := pyproject.toml constraints.txt protocol/pyproject.toml client/pyproject.toml server/pyproject.toml

.PHONY: help install demo test slow kill faults soak soak-all $(SOAKS) fuzz peers aimdb lint format \
    types bench bench-quick bench-peers bench-peers-quick bench-compare clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 18

install: $(STAMP)  ## make .venv with the three distributions and the tools

$(STAMP): $(PROJECTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt -e ./protocol -e './client[cli]' -e ./server --group dev
	@touch $@

demo: $(STAMP)  ## real observations in, latest per airport out, until Ctrl-C
	@$(BIN)/python -m examples.demo

test: $(STAMP)  ## the test suite
	$(BIN)/python -m pytest -n auto --dist worksteal $(addprefix --ignore=,$(SLOW) tests/faults)

slow: $(STAMP)  ## the rest of it: daemons on full disks, under floods, over damaged and odd files
	$(BIN)/python -m pytest $(SLOW)
	RECORDD_EXAMPLES=1000 $(BIN)/python -m pytest --timeout 600 tests/server/following/test_subscription_model.py

kill: $(STAMP)  ## twenty times kill -9 under load, nothing acknowledged lost
	RECORDD_KILLS=20 $(BIN)/python -m pytest tests/process/test_kill.py

faults: $(STAMP)  ## storage under faults in the short forms: 500 power cuts, every 20th I/O call, 150 bits, 10 SIGTERM, 3 full disks
	RECORDD_FAULTS=1 RECORDD_POWER_IMAGES=500 RECORDD_IO_EVERY=20 RECORDD_BITS=100 RECORDD_SIGTERMS=10 RECORDD_FULLS=3 $(BIN)/python -m pytest tests/faults tests/process/test_sigterm.py

soak: $(STAMP)  ## twenty seconds of followers that come and go under load, nothing missed
	RECORDD_SOAK_S=20 $(BIN)/python -m pytest tests/process/test_soak.py

soak-power: $(STAMP)  ## 10,000 states that a power cut can leave behind
	RECORDD_FAULTS=1 RECORDD_POWER_IMAGES=$${RECORDD_POWER_IMAGES:-10000} $(BIN)/python -m pytest tests/faults/test_power.py

soak-io: $(STAMP)  ## every I/O call fails, once and from then on
	RECORDD_FAULTS=1 RECORDD_IO_EVERY=$${RECORDD_IO_EVERY:-1} $(BIN)/python -m pytest tests/faults/test_io.py

soak-bits: $(STAMP)  ## 2,000 flipped bits in the database and 1,000 in the WAL
	RECORDD_FAULTS=1 RECORDD_BITS=$${RECORDD_BITS:-2000} $(BIN)/python -m pytest -s tests/faults/test_bits.py

soak-kill: $(STAMP)  ## a thousand times kill -9 under load, a follower throughout
	RECORDD_KILLS=$${RECORDD_KILLS:-1000} $(BIN)/python -m pytest tests/process/test_kill.py

soak-sigterm: $(STAMP)  ## 300 times SIGTERM under load
	RECORDD_SIGTERMS=$${RECORDD_SIGTERMS:-300} $(BIN)/python -m pytest tests/process/test_sigterm.py

soak-full: $(STAMP)  ## a hundred times a full disk, every row compared with the model
	RECORDD_FAULTS=1 RECORDD_FULLS=$${RECORDD_FULLS:-100} $(BIN)/python -m pytest tests/faults/test_full.py

soak-full-disks: $(STAMP)  ## a disk filled, emptied and killed a hundred times
	RECORDD_FULL_DISKS=$${RECORDD_FULL_DISKS:-100} $(BIN)/python -m pytest tests/process/test_disk_full.py

soak-schedules: $(STAMP)  ## 20,000 orders of a connection's tasks, 2,000 of them over a WebSocket
	RECORDD_SCHEDULES=20000 $(BIN)/python -m pytest tests/server/connections/test_outbox.py tests/server/transports/test_slow_websockets.py

soak-moments: $(STAMP)  ## 1,000 random plays in each backend, each answer that of its turn
	RECORDD_MOMENT_PLAYS=1000 $(BIN)/python -m pytest -s tests/server/extending/test_moment_model.py

soak-followers: $(STAMP)  ## 20,000 random lives of a follower, held against a model
	RECORDD_EXAMPLES=20000 $(BIN)/python -m pytest --timeout 3600 tests/server/following/test_subscription_model.py

soak-values: $(STAMP)  ## 200,000 odd values, names and times, read back equal or refused
	RECORDD_ODD_VALUES=$${RECORDD_ODD_VALUES:-200000} $(BIN)/python -m pytest -s tests/process/test_odd_values.py

soak-dearest: $(STAMP)  ## the dearest requests over 100,000 records, and a canary that waits 100 ms at most
	RECORDD_DEAREST_RECORDS=100000 RECORDD_DEAREST_BOUND_S=0.1 $(BIN)/python -m pytest -s tests/process/test_dearest.py

soak-floods: $(STAMP)  ## floods thirty times as large, and a canary that waits 100 ms at most
	RECORDD_FLOOD=30 RECORDD_FLOOD_BOUND_S=0.1 $(BIN)/python -m pytest -s tests/process/test_floods.py

soak-all: $(SOAKS)  ## every suite in its long form: hours

fuzz: $(STAMP)  ## 200,000 mutated frames, and a canary that must not notice
	RECORDD_FUZZ_FRAMES=200000 $(BIN)/python -m pytest -s tests/process/test_fuzz.py

peers: $(STAMP)  ## clients that others wrote, against the running daemon (needs npm)
	$(BIN)/python -m tests.peers.run

aimdb: $(STAMP)  ## AimDB's own programs against the running daemon (needs cargo)
	$(BIN)/python -m tests.peers.aimdb

lint: $(STAMP)  ## lint and format check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)  ## apply the format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)  ## strict types, sources and tests
	$(BIN)/mypy

bench: $(STAMP)  ## measure, beside peers and limits, in one run
	$(BIN)/python -m benchmarks

bench-quick: $(STAMP)  ## the same in short, to see that it runs
	$(BIN)/python -m benchmarks --quick

bench-peers: $(STAMP)  ## beside Redis, PostgreSQL and NATS, over the wire; writes docs/performance.md (14 minutes)
	benchmarks/wire/install
	$(BIN)/python -m benchmarks.wire --publish docs/performance.md

bench-peers-quick: $(STAMP)  ## the same in short, to see that it runs; writes nothing
	benchmarks/wire/install
	$(BIN)/python -m benchmarks.wire --quick

bench-compare: $(STAMP)  ## this tree beside BASE=COMMIT in the same rounds: is anything slower? (6 minutes)
	@test -n "$(BASE)" || { echo "Say which commit to compare with: make bench-compare BASE=main" >&2; exit 1; }
	$(BIN)/python -m benchmarks.wire.compare --base "$(BASE)"

clean:  ## remove what was made
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
