# The words that people, CI and the documents use. `make help` lists them.

GO          ?= go
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME    ?= 10s
TESTFLAGS   ?= -timeout 20m
# Without vedette-collector, which is others' packages but for its list of them.
RACE_PKGS   ?= ./cmd/vedette ./cmd/vedette-nvml ./internal/... ./ingest/... ./collector/... ./ebpf/... ./storage/... ./query/...
CLUSTER_PKGS ?= ./ebpf/identity/clustertest ./collector/container ./cmd/vedette

.PHONY: help all run build collector test race lint fuzz bench crash generate generate-ebpf check-clean e2e clean go test-tools test-kernels test-cluster kafka kafka-jars

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

all: build lint test ## build, lint and test

run: build ## build and start vedette with its data in ./data
	@exec bin/vedette run

build: go ## build bin/vedette, and bin/vedette-nvml, which reads GPUs
	@CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/vedette ./cmd/vedette-nvml

test: go test-tools kafka-jars trace-pages ## run the whole suite; say why a test was skipped
	@$(GO) test -json $(TESTFLAGS) ./... | $(GO) run ./internal/testlog

collector: go ## build bin/vedette-collector, the OpenTelemetry Collector with Vedette's components
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/vedette-collector ./cmd/vedette-collector

test-kernels: go ## run the eBPF tests in other kernels under QEMU; not part of test: fetches some 450 MB once
	@ebpf/kernels/fetch.sh .cache/kernels
	@$(GO) run ./ebpf/kernels

test-cluster: go test-tools ## run the tests that want a Kubernetes cluster in a real one; not part of test: builds Kubernetes
	@GO=$(GO) ebpf/identity/clustertest/build.sh .cache/kubernetes
	@VEDETTE_TEST_CLUSTER=$(CURDIR)/.cache/kubernetes $(GO) test -json -count=1 -p 1 $(TESTFLAGS) -run Cluster $(CLUSTER_PKGS) | $(GO) run ./internal/testlog

race: go ## run the packages with goroutines under the race detector
	@command -v $${CC:-cc} >/dev/null || { echo "make race: a C compiler is missing: install gcc or clang"; exit 1; }
	@CGO_ENABLED=1 $(GO) test -race -short -json $(TESTFLAGS) $(RACE_PKGS) | $(GO) run ./internal/testlog

lint: go ## gofmt, go vet, staticcheck and this repository's own rules
	@out=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); \
	  if [ -n "$$out" ]; then echo "gofmt -w is missing on:"; echo "$$out"; exit 1; fi
	@$(GO) vet ./...
	@$(GO) run $(STATICCHECK) ./...
	@$(GO) test ./internal/lint

fuzz: go ## run every fuzz target for FUZZTIME (10s) each
	@set -e; for dir in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -h '^func Fuzz' $$dir/*_test.go | sed 's/func \(Fuzz[A-Za-z0-9_]*\).*/\1/'); do \
	    echo "$$dir $$f"; \
	    out=$$($(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$dir 2>&1) \
	      || { case "$$out" in \
	        *"Failing input"*|*panic*) echo "$$out"; exit 1;; \
	        *"context deadline exceeded"*) out="ok (stopped late and found nothing: go.dev/issue/75804, mended in Go 1.27)";; \
	        *) echo "$$out"; exit 1;; esac; }; echo "$$out" | tail -n 1; \
	  done; done

bench: build ## measure vedette beside VictoriaMetrics and Prometheus; takes half an hour
	@$(GO) run ./bench/cmd/vedette-bench

crash: build ## kill a loaded server with -9 twenty times and compare every acknowledged sample
	@$(GO) run ./bench/cmd/vedette-bench crash

generate: go ## rewrite what is generated, such as docs/configuration.md
	@$(GO) generate ./...

generate-ebpf: go ## compile the eBPF programs anew; needs clang 14 and libbpf's headers
	@GO=$(GO) ebpf/bpf/generate.sh

check-clean: ## fail if the working tree differs from the last commit
	@if [ -n "$$(git status --porcelain)" ]; then git status --short; git --no-pager diff; exit 1; fi

e2e: build ## start the binary, write, query, kill and restart it
	@$(GO) test -count=1 -v -run E2E ./cmd/vedette

kafka: kafka-jars ## start a real Kafka node on 127.0.0.1:9092; data in .cache/kafka/data; Ctrl-C stops it
	@ingest/buffer/kafkatest/run.sh $(CURDIR)/.cache/kafka/libs $(CURDIR)/.cache/kafka/data

clean: ## remove what was built; ./data stays
	@rm -rf bin bench/out

# One line for the person who has no Go, or too old a one.
go:
	@command -v $(GO) >/dev/null || { echo "Go is missing: install Go 1.26 or newer from https://go.dev/dl/"; exit 1; }
	@$(GO) list -m >/dev/null 2>&1 || { echo "$$($(GO) version) does not do: install Go 1.26 or newer from https://go.dev/dl/ ($$($(GO) list -m 2>&1 | head -n 1))"; exit 1; }

# Real programs for tests, unpacked from their Debian packages without being
# installed; a test whose program is missing is skipped.
test-tools:
	@command -v apt-get >/dev/null && command -v dpkg >/dev/null || exit 0; \
	mkdir -p .cache/tools && cd .cache/tools || exit 0; \
	for tool in prometheus-node-exporter:prometheus-node-exporter etcd-server:etcd etcd-client:etcdctl nginx:nginx \
	  postgresql-15,postgresql-client-15,libpq5,libicu72,libxml2,libldap-2.5-0,libxslt1.1:postgres \
	  redis-server,redis-tools,libjemalloc2,liblzf1,libatomic1:redis-server \
	  mariadb-server-core,libaio1,libnuma1,libpcre2-8-0,liburing2:mariadbd \
	  mariadb-client-core,libmariadb3,libedit2,libncurses6:mariadb \
	  docker.io,libdevmapper1.02.1:dockerd containerd:containerd runc,libseccomp2:runc; do \
	  packages=$${tool%%:*}; program=$${tool#*:}; \
	  if command -v $$program >/dev/null || [ -x usr/bin/$$program ] || [ -x usr/sbin/$$program ] \
	    || [ -n "$$(ls usr/lib/postgresql/*/bin/$$program /usr/lib/postgresql/*/bin/$$program 2>/dev/null)" ]; then continue; fi; \
	  got=yes; for package in $$(echo $$packages | tr , ' '); do \
	    { { apt-get download -qq $$package || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get download -qq $$package; }; } >/dev/null 2>&1 \
	      && dpkg -x $${package}_*.deb .; } || got=no; \
	  done; \
	  if [ $$got = yes ]; then echo "unpacked $$program into .cache/tools for the tests"; \
	  else echo "$$program could not be fetched; tests that need it will be skipped"; fi; \
	done

# The jars of a real Apache Kafka broker, from the Maven registry; the tests that
# need it skip without them.
kafka-jars:
	@if [ -z "$$(ls .cache/kafka/libs/kafka_*.jar 2>/dev/null)" ]; then \
	  if command -v mvn >/dev/null && command -v java >/dev/null; then \
	    mvn -q -B -f ingest/buffer/kafkatest/pom.xml dependency:copy-dependencies -DincludeScope=runtime \
	      -DoutputDirectory=$(CURDIR)/.cache/kafka/libs >/dev/null 2>&1 \
	    && echo "fetched the jars of Apache Kafka into .cache/kafka/libs" \
	    || { rm -rf .cache/kafka/libs; echo "the jars of Kafka could not be fetched; its tests will be skipped"; }; \
	  else echo "mvn and java are missing, for a real Kafka broker; its tests will be skipped"; fi; fi

# Zipkin's page from the Maven registry and what drives a browser from that of
# npm; the tests that look at a trace with them skip without, or without chromium.
# A build of jaeger-ui is looked at, too, if it is in .cache/pages/jaeger-ui.
trace-pages:
	@mkdir -p .cache/pages; \
	if [ ! -f .cache/pages/zipkin-lens.jar ] && command -v mvn >/dev/null; then \
	  mvn -q -B dependency:copy -Dartifact=io.zipkin:zipkin-lens:2.27.1 -Dmdep.stripVersion=true -DoutputDirectory=$(CURDIR)/.cache/pages >/dev/null 2>&1 \
	    && echo "fetched zipkin-lens into .cache/pages" || echo "zipkin-lens could not be fetched; its test will be skipped"; \
	fi; \
	if [ ! -d .cache/pages/node_modules/playwright-core ] && command -v npm >/dev/null; then \
	  npm install --prefix .cache/pages --silent --no-audit --no-fund playwright-core@1.64.1 >/dev/null 2>&1 \
	    && echo "fetched playwright-core into .cache/pages" || echo "playwright-core could not be fetched; tests with a browser will be skipped"; \
	fi
