# The words that a user, a developer and CI share. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
DATA ?= .tripod
TRIPOD := target/release/tripod
SAMPLES := samples/trades/*.gz samples/quotes/*.gz

.PHONY: help run test check stop servers build soak

help: ## list these words
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

servers: ## install QuestDB, PostgreSQL and Redis where they are missing
	@scripts/install-servers

build: ## build the operator's binary
	@cargo build --release --locked -p tripod-cli

run: servers build ## from a clean machine to a proven replay of real trades
	@$(TRIPOD) --data $(DATA) up
	@$(TRIPOD) --data $(DATA) migrate
	@$(TRIPOD) --data $(DATA) replay $(SAMPLES)
	@printf '\nGo on with:\n  %s status\n  %s monitor\n  make stop\n' "$(TRIPOD)" "$(TRIPOD)"

stop: ## end the local stack; the data stay
	@if [ -x $(TRIPOD) ]; then $(TRIPOD) --data $(DATA) down; else echo "nothing was built here, so nothing runs"; fi

check: servers ## format, lints, unit tests, docs
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --workspace --lib --bins --locked
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked

test: servers ## the whole test suite, on real servers that it starts itself
	cargo test --workspace --locked

soak: servers build ## the long runs: hundreds of kills, ten minutes without QuestDB, half an hour of events, full disks; takes hours
	@scripts/soak
