# The words that a user, a developer and CI share. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
DATA ?= .tripod
TRIPOD := target/release/tripod
WEB := crates/tripod-cli/web
SAMPLES := samples/trades/*.gz samples/quotes/*.gz

.PHONY: help run test alerts-test check stop servers monitoring build drills soak page page-check page-test screenshots

help: ## list these words
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

servers: ## install QuestDB, PostgreSQL and Redis where they are missing
	@scripts/install-servers

monitoring: ## install Prometheus, Alertmanager and the exporters where they are missing; for the tests and for ops/
	@scripts/install-monitoring
page: ## build the page of `tripod monitor`; `build` and `run` do it where npm is
	@scripts/build-page

build: ## build the operator's binary
	@scripts/build-page --optional
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

test: servers monitoring ## the whole test suite, on real servers that it starts itself
	cargo test --workspace --locked
	RUSTFLAGS='--cfg loom' cargo test --locked --release -p tripod-journal --lib --target-dir target/loom loom

drills: servers build ## every drill once, on a stack of its own, with a table; takes some minutes
	@scripts/drills

alerts-test: servers monitoring ## the alerts alone: rules, pages, routes, a server killed until the pager rings
	cargo test -p tripod-cli --test alerts --locked -- --nocapture

soak: servers monitoring build ## the long runs: hundreds of kills, ten minutes without QuestDB, half an hour of events, full disks; takes hours
	@scripts/soak

page-check: ## types, unit tests and the page in a real browser, on scenes
	@scripts/install-page-tools
	@scripts/build-page
	@cd $(WEB) && npm run --silent types && npm run --silent unit && npm run --silent browser

page-test: servers page-check build ## the same, and `tripod monitor` itself on a real stack: QuestDB killed turns red, and green again
	@cd $(WEB) && TRIPOD="$(CURDIR)/$(TRIPOD)" npm run --silent e2e

screenshots: servers page build ## the pictures of the README, from a real stack
	@scripts/install-page-tools
	@cd $(WEB) && TRIPOD="$(CURDIR)/$(TRIPOD)" node test/e2e/screenshots.mjs "$(CURDIR)/docs/images"
