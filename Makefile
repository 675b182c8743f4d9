# The few commands people type. Everything they need is checked first, and installed only where it is missing.

.DEFAULT_GOAL := help
.PHONY: help setup build wasm run test fuzz lint bench bench-filter clean

PORT ?= 3100

help: ## this list
	@printf 'make run            the whole thing: build, feed real training logs through the filter, ask, keep serving\n'
	@printf 'make run ONCE=1     the same, and stop (PORT=3100 to change the port)\n'
	@printf 'make test           all tests: the workspace, then end to end against a real server\n'
	@printf 'make fuzz           fuzz for ten minutes a target (TIME=600 seconds, TARGET="push query")\n'
	@printf 'make lint           formatting, clippy, rustdoc, scripts\n'
	@printf 'make build          target/release/rankline\n'
	@printf 'make wasm           dist/rank_filter.wasm\n'
	@printf 'make bench          measure push and query on a corpus it makes itself\n'
	@printf 'make bench-filter   measure what a line costs in the filter, and (MEMORY=1) its memory over 50 million records\n'
	@printf 'make setup          only check and install what the above need\n'
	@printf 'make clean          remove what was built and the demo data\n'

setup:
	@scripts/setup.sh test

build:
	@scripts/setup.sh build
	cargo build --release --locked --bin rankline

wasm:
	@scripts/setup.sh wasm
	@scripts/build-wasm.sh

run: build wasm
	@python3 scripts/demo.py --port $(PORT) $(if $(ONCE),--once)

test:
	@scripts/test.sh

fuzz:
	@scripts/fuzz.sh $(or $(TIME),600) $(TARGET)

lint:
	@scripts/lint.sh

bench: build
	@python3 scripts/bench.py

bench-filter:
	@scripts/bench-filter.sh $(if $(MEMORY),memory)

clean:
	rm -rf .rankline dist
	cargo clean
