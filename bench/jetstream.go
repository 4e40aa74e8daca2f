package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// serveJetStream is the child's side: a JetStream server with file storage until stdin ends.
func serveJetStream() error {
	dir, err := os.MkdirTemp("", "millstream-bench-nats-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true})
	if err != nil {
		return err
	}
	s.Start()
	defer s.Shutdown()
	if !s.ReadyForConnections(10 * time.Second) {
		return errors.New("the JetStream server does not start")
	}
	fmt.Println(s.ClientURL())
	_, err = bufio.NewReader(os.Stdin).ReadString(0)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// startPeer starts this program again as a peer's server; it ends with this process.
func startPeer(flag string) (*peerProcess, error) {
	cmd := exec.Command(os.Args[0], flag)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("the peer (%s) did not start: %w", flag, err)
	}
	return &peerProcess{cmd: cmd, stdin: stdin, address: strings.TrimSpace(line)}, nil
}

// jetstreamPeer is a JetStream server with a client.
type jetstreamPeer struct {
	server *peerProcess
	conn   *nats.Conn
	js     jetstream.JetStream
}

func startJetStream() (*jetstreamPeer, error) {
	s, err := startPeer("-serve-jetstream")
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(s.address)
	if err != nil {
		s.stop()
		return nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		nc.Close()
		s.stop()
		return nil, err
	}
	return &jetstreamPeer{s, nc, js}, nil
}

func (p *jetstreamPeer) stop() {
	p.conn.Close()
	p.server.stop()
}

// stream makes a stream of its own subject.
func (p *jetstreamPeer) stream(ctx context.Context, name string) (jetstream.Stream, error) {
	return p.js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{name}, Storage: jetstream.FileStorage})
}

// published waits until all that was published is acknowledged.
func (p *jetstreamPeer) published(ctx context.Context) error {
	select {
	case <-p.js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *jetstreamPeer) publish(ctx context.Context, subject string, vals [][]byte) error {
	for _, v := range vals {
		if _, err := p.js.PublishAsync(subject, v, jetstream.WithStallWait(10*time.Second)); err != nil {
			return err
		}
	}
	return p.published(ctx)
}

// jetstreamTransform consumes, upper-cases and publishes values, at least once, and returns the CPU time per
// record of client and server.
func jetstreamTransform(ctx context.Context, vals [][]byte) (float64, error) {
	p, err := startJetStream()
	if err != nil {
		return 0, err
	}
	defer p.stop()
	in, err := p.stream(ctx, "in")
	if err != nil {
		return 0, err
	}
	if _, err := p.stream(ctx, "out"); err != nil {
		return 0, err
	}
	if err := p.publish(ctx, "in", vals); err != nil {
		return 0, err
	}
	consumer, err := in.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{AckPolicy: jetstream.AckAllPolicy, MaxAckPending: 20_000})
	if err != nil {
		return 0, err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(5000))
	if err != nil {
		return 0, err
	}
	defer messages.Stop()
	began := processCPU() + p.server.cpu()
	for i := range vals {
		m, err := messages.Next()
		if err != nil {
			return 0, err
		}
		if _, err := p.js.PublishAsync("out", bytes.ToUpper(m.Data()), jetstream.WithStallWait(10*time.Second)); err != nil {
			return 0, err
		}
		if i%1000 == 999 || i == len(vals)-1 {
			if err := errors.Join(p.published(ctx), m.Ack()); err != nil {
				return 0, err
			}
		}
	}
	return float64(processCPU()+p.server.cpu()-began) / float64(len(vals)), nil
}

// jetstreamRound publishes and consumes values and returns the server's CPU time per record of both.
func jetstreamRound(ctx context.Context, vals [][]byte) (publishNs, consumeNs float64, err error) {
	p, err := startJetStream()
	if err != nil {
		return 0, 0, err
	}
	defer p.stop()
	s := p.server
	stream, err := p.stream(ctx, "in")
	if err != nil {
		return 0, 0, err
	}
	before := s.cpu()
	if err := p.publish(ctx, "in", vals); err != nil {
		return 0, 0, err
	}
	published := s.cpu()
	consumer, err := stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy})
	if err != nil {
		return 0, 0, err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(5000))
	if err != nil {
		return 0, 0, err
	}
	defer messages.Stop()
	for range vals {
		if _, err := messages.Next(); err != nil {
			return 0, 0, err
		}
	}
	n := float64(len(vals))
	return float64(published-before) / n, float64(s.cpu()-published) / n, nil
}
