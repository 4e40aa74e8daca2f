// Command run starts an Apache Kafka cluster of three nodes, prints where it is reached, and stops it on Ctrl-C.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/millstream-io/millstream/broker/suites/kafkacluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "kafka-cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if err := kafkacluster.Missing(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kafka-cluster-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(os.Stderr, "starting three nodes of Apache Kafka in", dir)
	c, err := kafkacluster.Open(ctx, dir)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Printf("bootstrap.servers=%s\n", strings.Join(c.Brokers(), ","))
	fmt.Fprintln(os.Stderr, "Ctrl-C stops it and removes its data")
	<-ctx.Done()
	return nil
}
