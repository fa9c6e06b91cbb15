# Targets a newcomer needs: demo, test. The others: build lint generate bench.
# What a target needs from Debian is installed first, as root.

GO         ?= go
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS    := -s -w -X main.version=$(VERSION) -X github.com/prometheus/common/version.Version=$(VERSION)
PACKAGES   ?= ./...
BENCH      ?= .
BENCHCOUNT ?= 1
BENCHTIME  ?= 1s
N          ?= 20000
LOOKUPS    ?= 200000
SEED       ?= 1
FEATURES   ?=

export CGO_ENABLED = 0
# The checksum database does not know this one module; go.sum pins it.
export GONOSUMDB   = github.com/cloudflare/ipvs

.PHONY: build
build: ## bin/plumbline for this machine
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/plumbline ./cmd/plumbline

.PHONY: demo
demo: ## a broken cluster on this host, and what Plumbline says about it (ONCE=1: check it and exit)
	@hack/deps.sh demo
	@$(MAKE) --no-print-directory build
	@$(GO) build -trimpath -o bin/demo ./e2e/demo
	@bin/demo $(if $(ONCE),-once)

.PHONY: test
test: ## all tests; real packets in real namespaces, so as root
	@hack/deps.sh test
	@$(GO) tool -modfile=tools/go.mod helm version >/dev/null # is built before the tests run that need it
	$(GO) test -count=1 -timeout 14m $(PACKAGES)

.PHONY: test-vm
test-vm: ## tests on Debian's kernel, in a virtual machine, with all that a node's kernel may have
	$(GO) run ./e2e/vm

.PHONY: test-k8s
test-k8s: ## tests in clusters of real Kubernetes components, which are built first (RUN=regexp)
	@hack/deps.sh k8s
	@components=$$(hack/kubernetes.sh) && \
	PLUMBLINE_KUBERNETES=$$components $(GO) test -tags k8s -count=1 -timeout 20m -parallel 4 -run '$(RUN)' ./e2e/kubernetes/...

.PHONY: test-k8s-ipvs
test-k8s-ipvs: ## scenarios with kube-proxy in IPVS mode: nodes in a virtual machine, their API server here
	$(GO) run ./e2e/vm -pkg '^e2e/kubernetes$$'

.PHONY: bench-k8s
bench-k8s: ## what a cluster of 1,000 nodes costs, its objects from a real API server (BENCH=Scale, or Controller)
	@hack/deps.sh k8s
	@components=$$(hack/kubernetes.sh) && \
	PLUMBLINE_KUBERNETES=$$components $(GO) test -tags k8s -timeout 2h -run '^$$' -bench '$(BENCH)' -benchtime 1x ./e2e/kubernetes/watch

.PHONY: lint
lint: ## formatting, vet and staticcheck, for every platform that is built; and the chart
	hack/lint.sh

.PHONY: generate
generate: ## compile the eBPF programs again, and copy dashboards and rules into the chart
	@hack/chart-files.sh
	@hack/deps.sh generate
	$(GO) generate ./probes/...

.PHONY: bench
bench: ## benchmarks, in the format of benchstat (BENCH=regexp, BENCHCOUNT=n, BENCHTIME=500x)
	@hack/deps.sh test
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) -count $(BENCHCOUNT) $(PACKAGES)

.PHONY: ratios
ratios: ## a table: reading 10,000 services against iptables-legacy-restore, and how a packet's cost grows
	@hack/deps.sh test
	@$(GO) run ./hack/ratios

.PHONY: judge
judge: ## random worlds, judged by the kernel (N=packets, SEED=n, FEATURES=match:mark,route); disagreements go to bin/disagreements
	@hack/deps.sh test
	@$(GO) test -c -o bin/judge ./e2e/judge
	@cd e2e/judge && ../../bin/judge -test.run '^Test(Judge|Lookups|FlowsSpreadAsTheKernelSpreadsThem)$$' -test.timeout 0 -n $(N) -lookups $(LOOKUPS) -seed $(SEED) -features '$(FEATURES)' \
		-log ../../bin/judge.log -save ../../bin/disagreements $(JUDGEFLAGS)
	@$(GO) test -count=1 -v -run TestSetsHoldWhatTheKernelSaysTheyHold ./simulator/netfilter -args -set-tests 100000 >bin/judge-sets.out; status=$$?; cat bin/judge-sets.out; \
	{ printf '\n100000 look-ups in sets\n'; sed -n 's/^ *judge_sets_linux_test.go:[0-9]*: //p' bin/judge-sets.out | sort; } >>bin/judge.log; exit $$status

.PHONY: judge-vm
judge-vm: ## the same on Debian's kernel, in a virtual machine, for what few other kernels have (N=packets, SEED=n); the report is bin/judge-vm.log
	@mkdir -p bin
	@$(GO) run ./e2e/vm -pkg e2e/judge -v -timeout 6h -args '-n $(N) -seed $(SEED) $(JUDGEFLAGS)' >bin/judge-vm.out; status=$$?; cat bin/judge-vm.out; \
	{ echo "judge-vm: -n $(N) -seed $(SEED) $(JUDGEFLAGS)"; sed -n -e '/^Linux /p' -e '/^feature  /,/worlds failed$$/p' bin/judge-vm.out | grep -v ' 0  *0  *-  *seldom'; } >bin/judge-vm.log; exit $$status

.PHONY: judge-faults
judge-faults: ## mistakes put into the simulator one by one, each of which the judge has to find (RUN=regexp)
	@hack/deps.sh test
	@$(GO) run ./e2e/judge/faults -run '$(RUN)' -seed $(SEED) $(FAULTSFLAGS)

.PHONY: fuzz
fuzz: ## every fuzzer for FUZZTIME (default 10m); what it finds is kept in testdata (RUN=regexp)
	@FUZZTIME='$(FUZZTIME)' RUN='$(RUN)' hack/fuzz.sh

.PHONY: clean
clean:
	rm -rf bin

.PHONY: help
help:
	@sed -n 's/^\([a-z-]*\): ## /  \1\t/p' Makefile
