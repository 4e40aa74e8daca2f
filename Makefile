# Everything a developer types. `make` needs nothing but Go.

GO        ?= go
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
PLUGINS   := $(patsubst plugins/%/plugin.yaml,%,$(wildcard plugins/*/plugin.yaml))
WASM      := $(PLUGINS:%=plugins/dist/%.wasm.gz)
LDFLAGS   := -s -w -X main.version=$(VERSION)
BUILD     := CGO_ENABLED=0 $(GO) build -trimpath -tags urfave_cli_no_docs -ldflags '$(LDFLAGS)'
GOSOURCES := $(shell find broker runtime cli sdk plugins -name '*.go' -not -name '*_test.go' 2>/dev/null) go.mod go.sum

.PHONY: all build plugins demo test race bench lint fuzz crash powercut sim verify verify-kafka histories interop examples \
	suite-librdkafka suite-kgo suite-kgo-race suite-java suite-kafka suite-secured kafka-cluster clean help

all: build

build: bin/millstream ## the binary with all plugins in it

plugins: $(WASM) ## the ready-made modules, into plugins/dist

# The builder is the binary itself, without plugins in it yet.
bin/.builder: $(GOSOURCES)
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -tags urfave_cli_no_docs -o bin/.builder ./cli/millstream

# Everything in the directory of a plugin goes into its module.
.SECONDEXPANSION:
plugins/dist/%.wasm.gz: bin/.builder $$(shell find plugins/$$* plugins/internal sdk/go -type f -not -path '*/testdata/*')
	@mkdir -p plugins/dist
	bin/.builder build plugins/$* -o plugins/dist/$*.wasm
	@gzip -9 -n -f plugins/dist/$*.wasm

bin/millstream: $(WASM) $(GOSOURCES)
	$(BUILD) -o $@ ./cli/millstream

demo: build ## the main job: a server, a deployed module, English in, Spanish out
	bin/millstream demo

test: build ## every test that needs nothing but Go (the rest is skipped aloud)
	$(GO) vet ./...
	$(GO) test -timeout 20m ./...
	cd sdk/go/transform && $(GO) vet ./... && $(GO) test ./...

race: ## the same under the race detector
	$(GO) test -race -timeout 30m ./broker/... ./runtime/...

bench: build ## benchmarks, as ratios in one run
	cd bench && $(GO) run . -millstream ../bin/millstream

lint: ## vet, formatting, the laws of the tree
	$(GO) vet ./...
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'run gofmt -w on these'; exit 1; }
	$(GO) test -run TestArchitecture .

FUZZTIME ?= 20s
fuzz: ## every fuzz target for FUZZTIME
	.ci/fuzz $(FUZZTIME)

crash: ## every state that a power cut, a failing disk or a flipped bit may leave (about three minutes on two cores)
	$(GO) test -count=1 -timeout 15m -v ./broker/crashtest -run '^Test(CrashStates|Controls|Failures|Damage)$$' -crash.states 30000 -crash.failures 4000 -crash.flips 10000

powercut: ## the power of a real ext4 is cut, at hundreds of moments of a recorded disk (needs root, FUSE and loop devices)
	$(GO) test -count=1 -timeout 20m -v -run '^TestPowerCut' ./broker/crashtest -powercut.points 300

BINARY = MILLSTREAM_SUITES_BINARY=$(CURDIR)/bin/millstream

sim: ## deployments in simulated time, on a cluster that fails in every way it may: 1,000 seeds (also part of make test)
	$(GO) test -count=1 -timeout 10m -v ./runtime/sim

verify: build ## sequences through deployments whose servers and workers are killed, paused and cut off; planted bugs are caught
	$(BINARY) $(GO) test -count=1 -v -timeout 20m -parallel 3 -run '^TestVerify(Embedded|Isolated|Workers|Catches)$$' ./runtime/verify -verify.kills 320

verify-kafka: build ## the same over three nodes of Apache Kafka, and histories of clients and deployments there; nodes and workers are killed, paused and cut off (needs Java 17 and Maven)
	$(BINARY) $(GO) test -count=1 -v -timeout 20m -run '^TestVerifyKafka$$' ./runtime/verify -verify.kills 10

histories: build ## what concurrent transactional clients see under kills, pauses, cuts and late requests, against the anomalies Kafka's model forbids
	$(BINARY) $(GO) test -count=1 -v -timeout 20m -parallel 3 -run '^Test(Histories|PlantedBugs)$$' ./runtime/verify

interop: build ## unmodified Kafka clients against the real binary (kcat, python, node: what is missing is skipped aloud)
	$(GO) test -count=1 -v -run TestInterop ./cli/...

examples: build ## every example, as its README tells
	$(GO) test -count=1 -v -run TestExamples ./cli/...

suite-librdkafka: build ## librdkafka's own tests against the binary (fetched by npm, built once; needs a C compiler)
	$(BINARY) $(GO) test -count=1 -v -timeout 60m -run '^TestLibrdkafka$$' ./broker/suites

suite-kgo: build ## the tests of franz-go's kgo against the binary
	$(BINARY) $(GO) test -count=1 -v -timeout 30m -run '^TestKgo$$' ./broker/suites

suite-kgo-race: ## the same against a binary with the race detector in it (needs a C compiler)
	CGO_ENABLED=1 $(GO) build -race -tags urfave_cli_no_docs -o bin/millstream-race ./cli/millstream
	MILLSTREAM_SUITES_BINARY=$(CURDIR)/bin/millstream-race $(GO) test -count=1 -v -timeout 30m -run '^TestKgo$$' ./broker/suites

suite-kafka: ## the engine's contract over Apache Kafka, new and old, also while nodes are killed, stand still and leaders move (needs Java 17 and Maven)
	MILLSTREAM_KAFKA_CLUSTER=start $(GO) test -count=1 -v -timeout 30m -p 1 -run '^Test(KafkaCluster|NodesComeBack)' ./broker/suites/kafkacluster ./runtime/engine/kafka

suite-secured: plugins ## workers against an Apache Kafka with TLS, logins and rights (needs Java 17 and Maven)
	MILLSTREAM_KAFKA_CLUSTER=start $(GO) test -count=1 -v -timeout 10m -run '^Test(Secured|Rights)$$' ./cli/acceptance

kafka-cluster: ## starts three nodes of Apache Kafka on this machine, for trying out `millstream worker` (needs Java 17 and Maven)
	$(GO) run ./broker/suites/kafkacluster/run

suite-java: build ## main classes of Apache Kafka and a Kafka Streams word count against the binary, also while it is killed (needs Java 17 and Maven; about six minutes)
	$(BINARY) $(GO) test -count=1 -v -timeout 20m -run '^TestJava$$' ./broker/suites

clean:
	rm -rf bin plugins/dist/*.wasm plugins/dist/*.gz

help:
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 20
