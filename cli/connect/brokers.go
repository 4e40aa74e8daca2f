// Package connect reaches the two doors of a server from the command line: its
// Kafka port and its admin API. It turns what goes wrong there into errors with
// exit codes and a way out, and never makes a person wait long for "unreachable".
package connect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"
)

// Defaults of the addresses.
const (
	DefaultBrokers = "127.0.0.1:9092"
	DefaultAdmin   = "http://127.0.0.1:9644"
)

const dialTimeout = 2 * time.Second

// RequestTimeout is how long an answer is waited for, retries included.
const RequestTimeout = 10 * time.Second

// Brokers are a cluster: bootstrap addresses from --brokers or MILLSTREAM_BROKERS, and how to talk to them.
type Brokers struct {
	Addresses string
	Security
}

// Flags are --brokers and, not shown in the help, those of Security.
func (b *Brokers) Flags(env *command.Env) []cli.Flag {
	return b.flags(env, "`HOST:PORT` of the broker, several with commas; TLS and logins: see millstream worker --help", true)
}

// AllFlags are the same with those of Security in the help.
func (b *Brokers) AllFlags(env *command.Env) []cli.Flag {
	return b.flags(env, "`HOST:PORT` of the brokers, several with commas", false)
}

func (b *Brokers) flags(env *command.Env, usage string, hidden bool) []cli.Flag {
	b.passwordVariable = env.Getenv(passwordVariable)
	return append([]cli.Flag{&cli.StringFlag{
		Name: "brokers", Usage: usage,
		Value: DefaultBrokers, EnvVars: []string{"MILLSTREAM_BROKERS"}, Destination: &b.Addresses,
	}}, b.Security.flags(hidden)...)
}

// Open connects. That no broker answers is known at once when nothing listens, within two seconds otherwise.
func (b *Brokers) Open(ctx context.Context, opts ...kgo.Opt) (*kgo.Client, error) {
	seeds, err := b.seeds()
	if err != nil {
		return nil, err
	}
	security, err := b.options()
	if err != nil {
		return nil, err
	}
	if err := answer(ctx, seeds); err != nil {
		return nil, err
	}
	all := append([]kgo.Opt{
		kgo.SeedBrokers(seeds...),
		kgo.ClientID("millstream-cli"),
		kgo.DialTimeout(dialTimeout),
		kgo.RequestTimeoutOverhead(5 * time.Second),
		kgo.RetryTimeout(RequestTimeout),
		kgo.RequestRetries(5),
		kgo.RetryBackoffFn(func(n int) time.Duration { return min(time.Second, 25*time.Millisecond<<min(n, 6)) }),
		// A command looks once; waiting seconds between two looks would be its whole life.
		kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.MaxDecompressBatchBytes(64 << 20),
		kgo.DisableClientMetrics(),
	}, append(security, opts...)...)
	client, err := kgo.NewClient(all...)
	if err != nil {
		return nil, command.Usagef("--brokers %s: %w", b.Addresses, err)
	}
	return client, nil
}

// Greet asks who the brokers are, so that what is wrong with the connection or the login is told at once. A client
// that only writes would try again, without a word.
func (b *Brokers) Greet(ctx context.Context, client *kgo.Client) error {
	_, err := kadm.NewClient(client).BrokerMetadata(ctx)
	return b.Explain(err, "brokers at "+b.Addresses)
}

func (b *Brokers) seeds() ([]string, error) {
	var seeds []string
	for s := range strings.SplitSeq(b.Addresses, ",") {
		s = strings.TrimSpace(s)
		if s == "" {
			continue
		}
		if !strings.Contains(s, ":") {
			s += ":9092"
		}
		if _, _, err := net.SplitHostPort(s); err != nil {
			return nil, command.Usagef("--brokers: %q is not HOST:PORT", s).WithFix("write for example --brokers %s", DefaultBrokers)
		}
		seeds = append(seeds, s)
	}
	if len(seeds) == 0 {
		return nil, command.Usagef("--brokers is empty").WithFix("write --brokers HOST:PORT, or leave it out for %s", DefaultBrokers)
	}
	return seeds, nil
}

// answer returns nil as soon as one of the addresses accepts a connection.
func answer(ctx context.Context, seeds []string) error {
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	results := make(chan error, len(seeds))
	for _, s := range seeds {
		go func() {
			var d net.Dialer
			c, err := d.DialContext(dialing, "tcp", s)
			if err == nil {
				c.Close()
			}
			results <- err
		}()
	}
	var errs []error
	for range seeds {
		err := <-results
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	if ctx.Err() != nil {
		return ctx.Err() // it was interrupted, which says nothing of them
	}
	return unreachableBrokers(seeds, errors.Join(errs...))
}

func unreachableBrokers(seeds []string, err error) error {
	e := &command.Error{
		Code: command.CodeUnreachable,
		Err:  fmt.Errorf("no broker answers at %s: %w", strings.Join(seeds, ", "), err),
		Fix:  "start one with: millstream server\nor name another: --brokers HOST:PORT, or MILLSTREAM_BROKERS",
	}
	for _, s := range seeds {
		if speaksHTTP(s) {
			e.Err = fmt.Errorf("no broker answers at %s: what is there speaks HTTP: %w", s, err)
			e.Fix = "is it the port of the admin API? The one for Kafka clients is another: --brokers HOST:PORT, or MILLSTREAM_BROKERS (default " + DefaultBrokers + ")"
		}
	}
	return e
}

// speaksHTTP asks what is at an address that has not answered as a broker.
func speaksHTTP(address string) bool {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	_, err = c.Write([]byte("HEAD / HTTP/1.0\r\n\r\n"))
	if err != nil {
		return false
	}
	answer := make([]byte, len("HTTP/"))
	_, err = io.ReadFull(c, answer)
	return err == nil && string(answer) == "HTTP/"
}
