// Command run starts an Apache Kafka cluster, prints where it is reached, and stops it on Ctrl-C.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/millstream-io/millstream/broker/suites/kafkacluster"
)

func main() {
	one := flag.Bool("one", false, "one node instead of three")
	secured := flag.Bool("secured", false, "with listeners for TLS and logins, too, and an authorizer")
	version := flag.String("version", "", "another release of Apache Kafka than "+kafkacluster.DefaultVersion)
	var options []kafkacluster.Option
	flag.Func("feature", "a feature with its level, as transaction.version=0", func(text string) error {
		name, level, _ := strings.Cut(text, "=")
		n, err := strconv.Atoi(level)
		options = append(options, kafkacluster.Feature(name, n))
		return err
	})
	flag.Func("property", "a property of all nodes, as message.max.bytes=20000", func(text string) error {
		name, value, _ := strings.Cut(text, "=")
		options = append(options, kafkacluster.Property(name, value))
		return nil
	})
	flag.Parse()
	if *one {
		options = append(options, kafkacluster.OneNode())
	}
	if *secured {
		options = append(options, kafkacluster.Secured())
	}
	if *version != "" {
		options = append(options, kafkacluster.Version(*version))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, options); err != nil {
		fmt.Fprintln(os.Stderr, "kafka-cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, options []kafkacluster.Option) error {
	if err := kafkacluster.Missing(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kafka-cluster-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(os.Stderr, "starting Apache Kafka in", dir)
	c, err := kafkacluster.Open(ctx, dir, options...)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Printf("bootstrap.servers=%s\n", strings.Join(c.Brokers(), ","))
	if s := c.Security(); s != nil {
		fmt.Printf("with TLS and a login: bootstrap.servers=%s\n  --tls-ca %s --sasl-mechanism scram-sha-512 --sasl-user %s, password %s\n",
			strings.Join(s.Brokers, ","), s.Authority, kafkacluster.User, kafkacluster.Password)
		fmt.Printf("with a certificate: bootstrap.servers=%s\n  --tls-ca %s --tls-cert %s --tls-key %s\n",
			strings.Join(s.CertificateBrokers, ","), s.Authority, s.Certificate, s.Key)
	}
	fmt.Fprintln(os.Stderr, "Ctrl-C stops it and removes its data")
	<-ctx.Done()
	return nil
}
