package main

import (
	"bufio"
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

// jetstreamRound publishes and consumes values and returns the server's CPU time per record of both.
func jetstreamRound(ctx context.Context, vals [][]byte) (publishNs, consumeNs float64, err error) {
	s, err := startPeer("-serve-jetstream")
	if err != nil {
		return 0, 0, err
	}
	defer s.stop()
	nc, err := nats.Connect(s.address)
	if err != nil {
		return 0, 0, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		return 0, 0, err
	}
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "in", Subjects: []string{"in"}, Storage: jetstream.FileStorage})
	if err != nil {
		return 0, 0, err
	}
	before := s.cpu()
	for _, v := range vals {
		if _, err := js.PublishAsync("in", v, jetstream.WithStallWait(10*time.Second)); err != nil {
			return 0, 0, err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		return 0, 0, ctx.Err()
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
