package acceptance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millstream-io/millstream/broker/suites/kafkacluster"
)

// guarded is an Apache Kafka that lets in whom it knows, and where everybody needs rights.
type guarded struct {
	*kafkacluster.Cluster
	security    *kafkacluster.Security
	admin       *kadm.Client
	right       string // file of the password
	wrong, none string // files of something else
}

func startGuarded(t *testing.T) *guarded {
	t.Helper()
	if os.Getenv("MILLSTREAM_KAFKA_CLUSTER") == "" {
		t.Skip("NOT RUN: it takes an Apache Kafka; MILLSTREAM_KAFKA_CLUSTER=start runs it")
	}
	c := kafkacluster.Start(t, kafkacluster.OneNode(), kafkacluster.Secured())
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	dir := t.TempDir()
	g := &guarded{Cluster: c, security: c.Security(), admin: kadm.NewClient(client), right: filepath.Join(dir, "right"), wrong: filepath.Join(dir, "wrong"), none: filepath.Join(dir, "none")}
	for file, text := range map[string]string{g.right: kafkacluster.Password + "\n", g.wrong: "guess", g.none: ""} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// login are the flags of a login.
func (g *guarded) login(mechanism, password string) []string {
	return []string{"--brokers", g.security.Brokers[0], "--tls-ca", g.security.Authority,
		"--sasl-mechanism", mechanism, "--sasl-user", kafkacluster.User, "--sasl-password-file", password}
}

// right is one of a user, for one thing or all whose names begin alike.
type right struct {
	rules      *kadm.ACLBuilder
	pattern    kadm.ACLPattern
	operations []kadm.ACLOperation
}

func (r right) ofTheUser() *kadm.ACLBuilder {
	return r.rules.Allow("User:" + kafkacluster.User).AllowHosts("*").ResourcePatternType(r.pattern).Operations(r.operations...)
}

func (g *guarded) give(t *testing.T, rights ...right) {
	t.Helper()
	for _, r := range rights {
		results, err := g.admin.CreateACLs(t.Context(), r.ofTheUser())
		for _, one := range results {
			err = errors.Join(err, one.Err)
		}
		if err != nil {
			t.Fatal(err)
		}
		g.inForce(t, r, len(r.operations))
	}
}

// inForce waits until the broker knows of as many rules as there are now; the controller, which answers for them, knows earlier.
func (g *guarded) inForce(t *testing.T, r right, rules int) {
	t.Helper()
	for known := -1; known != rules; {
		results, err := g.admin.DescribeACLs(t.Context(), r.ofTheUser())
		known = 0
		for _, one := range results {
			err = errors.Join(err, one.Err)
			known += len(one.Described)
		}
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func (g *guarded) take(t *testing.T, r right) {
	t.Helper()
	results, err := g.admin.DeleteACLs(t.Context(), r.ofTheUser())
	for _, one := range results {
		err = errors.Join(err, one.Err)
	}
	if err != nil {
		t.Fatal(err)
	}
	g.inForce(t, r, 0)
}

// Rights that a deployment needs, as millstream worker --help lists them.
var (
	ofInternalTopics = right{kadm.NewACLs().Topics("__millstream_"), kadm.ACLPatternPrefixed, []kadm.ACLOperation{kadm.OpCreate, kadm.OpDescribe, kadm.OpRead, kadm.OpWrite}}
	ofDeadLetters    = right{kadm.NewACLs().Topics("loud.dlq"), kadm.ACLPatternLiteral, []kadm.ACLOperation{kadm.OpCreate, kadm.OpDescribe, kadm.OpRead, kadm.OpWrite}}
	ofInput          = right{kadm.NewACLs().Topics("in"), kadm.ACLPatternLiteral, []kadm.ACLOperation{kadm.OpDescribe, kadm.OpRead}}
	ofOutput         = right{kadm.NewACLs().Topics("out"), kadm.ACLPatternLiteral, []kadm.ACLOperation{kadm.OpDescribe, kadm.OpWrite}}
	ofGroups         = right{kadm.NewACLs().Groups("loud"), kadm.ACLPatternPrefixed, []kadm.ACLOperation{kadm.OpDescribe, kadm.OpRead}}
	ofTransactions   = right{kadm.NewACLs().TransactionalIDs("millstream-"), kadm.ACLPatternPrefixed, []kadm.ACLOperation{kadm.OpDescribe, kadm.OpWrite}}
)

// quickly is much longer than any of these errors takes, also on a busy machine: a worker gives a cluster that cuts connections five seconds.
const quickly = time.Minute

// refused runs a command that has to fail soon, and to say all of this.
func refused(t *testing.T, args []string, wants ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), quickly)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("x\n"), &said, &said
	err := cmd.Run()
	if err == nil || ctx.Err() != nil {
		t.Errorf("millstream %q ended with %v (%v):\n%s", args, err, ctx.Err(), &said)
	}
	for _, want := range wants {
		if !strings.Contains(said.String(), want) {
			t.Errorf("millstream %q does not say %q:\n%s", args, want, &said)
		}
	}
	if strings.Contains(said.String(), kafkacluster.Password) {
		t.Errorf("millstream %q tells the password:\n%s", args, &said)
	}
}

// TestSecured: commands and workers over TLS, by every kind of login; what does not fit is told at once, with the thing and the way out.
func TestSecured(t *testing.T) {
	g := startGuarded(t)
	open, encrypted, byCertificate := g.Brokers()[0], g.security.Brokers[0], g.security.CertificateBrokers[0]
	anywhere := []string{"worker", "--admin", "127.0.0.1:0", "--cache", filepath.Join(t.TempDir(), "cache")}
	for _, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		s := &server{}
		s.millstream(t, "", append([]string{"topic", "list"}, g.login(mechanism, g.right)...)...)
		for _, command := range [][]string{{"topic", "list"}, {"produce", "in"}, {"consume", "in"}, {"group", "list"}, {"txn", "list"}, {"dlq", "list", "loud"}, anywhere} {
			refused(t, append(command, g.login(mechanism, g.wrong)...), "check --sasl-user, its password and --sasl-mechanism")
		}
	}
	(&server{}).millstream(t, "", "topic", "list", "--brokers", byCertificate, "--tls-ca", g.security.Authority, "--tls-cert", g.security.Certificate, "--tls-key", g.security.Key)
	for _, command := range [][]string{{"topic", "list"}, {"produce", "in"}, {"consume", "in"}, anywhere} {
		to := func(flags ...string) []string { return append(append([]string{}, command...), flags...) }
		refused(t, to("--brokers", encrypted), encrypted, "--tls-ca FILE")
		refused(t, to("--brokers", encrypted, "--tls"), encrypted, "certificate", "--tls-ca FILE")
		refused(t, to("--brokers", encrypted, "--tls-ca", g.security.Authority), encrypted, "--sasl-mechanism")
		refused(t, to("--brokers", open, "--tls-ca", g.security.Authority), open, "leave the flags that begin with --tls out")
		refused(t, to("--brokers", byCertificate, "--tls-ca", g.security.Authority), byCertificate, "--tls-cert FILE")
		refused(t, append(command, g.login("scram-sha-512", g.none)...), "there is no password")
	}
}

// TestRights: a worker with the rights that its help lists does everything, one without tells which one it lacks.
func TestRights(t *testing.T) {
	g := startGuarded(t)
	plugin := upperPlugin(t)
	login := g.login("scram-sha-512", g.right)
	for _, topic := range []string{"in", "out"} {
		if _, err := g.admin.CreateTopic(t.Context(), 2, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, append([]string{"topic", "create", "new"}, login...), `"new"`, "kafka-acls --add")
	refused(t, append([]string{"produce", "in"}, login...), `"in"`, "kafka-acls --add")
	refused(t, append([]string{"consume", "in"}, login...), `"in"`, "kafka-acls --add")
	refused(t, append([]string{"group", "describe", "loud"}, login...), `"loud"`, "kafka-acls --add")
	refused(t, append([]string{"dlq", "list", "loud"}, login...), `"loud.dlq"`, "kafka-acls --add")
	refused(t, append([]string{"worker", "--admin", "127.0.0.1:0", "--cache", filepath.Join(t.TempDir(), "cache")}, login...), "__millstream_catalog", "Create, Read, Write and Describe", "kafka-acls --add")

	g.give(t, ofInternalTopics)
	w := launch(t, append([]string{"worker", "--cache", filepath.Join(t.TempDir(), "cache")}, login...)...)
	deploy := []string{"deploy", plugin, "--name", "loud", "--from", "in", "--to", "out", "--start", "earliest", "--admin", w.Admin}
	for _, step := range []struct {
		names string
		right right
	}{{`"in"`, ofInput}, {`"out"`, ofOutput}, {`"loud"`, ofGroups}, {`"loud.dlq"`, ofDeadLetters}, {"millstream-", ofTransactions}} {
		refused(t, deploy, step.names, "lacks a right", "kafka-acls --add")
		g.give(t, step.right)
	}
	w.millstream(t, "", deploy...)
	w.flows(t, g)
	for _, taken := range []struct {
		names string
		right right
	}{{"in", right{ofInput.rules, ofInput.pattern, []kadm.ACLOperation{kadm.OpRead}}}, {"out-", ofOutput}, {`"loud"`, right{ofGroups.rules, ofGroups.pattern, []kadm.ACLOperation{kadm.OpRead}}}, {"millstream-loud", ofTransactions}} {
		g.take(t, taken.right)
		(&server{Brokers: g.Brokers()[0]}).millstream(t, "after "+taken.names, "produce", "in")
		w.await(t, "loud is retrying", taken.names, "lacks a right")
		g.give(t, taken.right)
		w.await(t, "loud is running", "lag 0")
	}
	w.flows(t, g)
	w.stop(t, syscall.SIGTERM)
	if strings.Contains(w.log.String(), kafkacluster.Password) {
		t.Error("the password is in the log")
	}
	if n := lines(&w.log); n > 60 {
		t.Errorf("%d lines were logged:\n%.5000s", n, w.log.String())
	}
}

// flows writes records and reads what becomes of them, committed, each once.
func (s *server) flows(t *testing.T, g *guarded) {
	t.Helper()
	outside := &server{Brokers: g.Brokers()[0]}
	before := outside.count(t, "out")
	var input strings.Builder
	for i := range 100 {
		fmt.Fprintf(&input, "%d.%d\n", before, i)
	}
	outside.millstream(t, input.String(), "produce", "in")
	s.await(t, "loud is running", "lag 0")
	if got := outside.count(t, "out"); got != before+100 {
		t.Errorf("%d outputs came of 100 records", got-before)
	}
}
