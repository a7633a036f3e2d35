# Everything that is done with this repository. `make` lists it.
# The control plane that demo, test and bench run on is described in e2e/plane/README.md.

CARGO ?= cargo
# Where `make demo` plays: `embedded`, or `current` for the cluster of kubectl's current context.
CLUSTER ?= embedded
# The part of the end-to-end tests that `make test` runs: behaviour, security, faults or cleanup; empty: all, and `check`.
PART ?=

.DEFAULT_GOAL := help
.PHONY: help check plane demo e2e test test-faults bench bench-guards crds guards clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check: ## format, lints, unit and property tests: the fast loop, under two minutes when warm
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) test --lib

plane: ## build the control plane for the tests: 10 to 20 minutes the first time, then nothing
	e2e/plane/build.sh

demo: ## watch one access from request to end; CLUSTER=current: in the cluster of kubectl's current context
	$(CARGO) build --bin curfew --example demo
	$(CARGO) run --quiet --example demo -- --cluster $(CLUSTER) $(if $(YES),--yes)

test: $(if $(PART),,check) e2e ## check, then the end-to-end tests; PART=faults (behaviour, security, cleanup): that part alone

e2e: plane ## the end-to-end tests on a real control plane, the demo among them: 15 minutes on two cores
	$(CARGO) build --bins --examples
	$(CARGO) test --test e2e $(if $(PART),-- e2e::$(PART)::)

test-faults: plane ## every fault at every place, of which `make test` tries the most telling ones: 20 minutes
	$(CARGO) build --bins --examples
	$(CARGO) test --test e2e -- --ignored

bench: plane ## measure on a real control plane, release build, against a bare client
	$(CARGO) build --release --bin curfew --example bench
	$(CARGO) run --release --quiet --example bench

bench-guards: plane ## measure what the guards cost requests that have nothing to do with Curfew
	$(CARGO) build --release --example bench
	$(CARGO) run --release --quiet --example bench -- --json target/bench-guards.json guards

crds: ## write crds/ anew from the types in src/api
	$(CARGO) build --bin curfew
	$(CARGO) run --quiet --bin curfew -- crds | awk ' \
		function put() { if (name != "") { printf "%s", text > ("crds/" name ".yaml") } text = name = "" } \
		/^---$$/ { put(); next } \
		name == "" && /^  name: / { name = $$2 } \
		{ text = text $$0 "\n" } \
		END { put() }'

guards: ## write manifests/guards.yaml anew from src/core/guard
	$(CARGO) run --quiet --bin curfew -- guards > target/guards.yaml
	mv target/guards.yaml manifests/guards.yaml

clean: ## remove what cargo built; the control plane stays in its cache
	$(CARGO) clean
