package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/millstream-io/millstream/runtime/admin"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/twmb/franz-go/pkg/kgo"
)

// runawayTopic is the input of guests that never end; the bystander's is writeLatencies' own.
const runawayTopic = "runaway"

// hostile: what guests that never end do to somebody who only writes to the same server.
func (b *bench) hostile(ctx context.Context) error {
	title("Runaway guests: single records of a bystander, one after the other, acks=1, beside 0, 1 and 2 endless guests")
	for _, isolation := range []string{"none", "process"} {
		var latencies [3][]time.Duration
		for round := range 5 {
			for n := range latencies {
				took, err := b.besideRunaways(ctx, isolation, n, fmt.Sprintf("hostile-%s-%d-%d", isolation, round, n))
				if err != nil {
					return fmt.Errorf("isolation %s, %d guests: %w", isolation, n, err)
				}
				latencies[n] = append(latencies[n], took...)
			}
		}
		for n, l := range latencies {
			fmt.Printf("  isolation %-8s %d guests: p50 %s, p99 %s\n", isolation, n, micros(quantile(l, 0.5)), micros(quantile(l, 0.99)))
		}
		goal := "–"
		if isolation == "process" {
			goal = "≤ 1.2"
		}
		for n := 1; n < len(latencies); n++ {
			ratio(fmt.Sprintf("isolation %s: p99 beside %d / alone", isolation, n), float64(quantile(latencies[n], 0.99))/float64(quantile(latencies[0], 0.99)), goal)
		}
	}
	return nil
}

// besideRunaways starts a server with n endless guests and measures what a bystander waits.
func (b *bench) besideRunaways(ctx context.Context, isolation string, n int, dir string) ([]time.Duration, error) {
	s, adminURL, _, err := startMillstream(b.binary, filepath.Join(b.dir, dir), "--isolation", isolation)
	if err != nil {
		return nil, err
	}
	// An orderly stop would wait for the guests.
	defer func() { _ = s.cmd.Process.Kill(); _ = s.cmd.Wait() }()
	for _, topic := range []string{"scale-0", runawayTopic} {
		cmd := exec.CommandContext(ctx, b.binary, "topic", "create", topic)
		cmd.Env = append(os.Environ(), "MILLSTREAM_BROKERS="+s.address)
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, out)
		}
	}
	client, err := admin.NewClient(adminURL, nil)
	if err != nil {
		return nil, err
	}
	info, err := client.UploadModule(ctx, bytes.NewReader(b.guest), int64(len(b.guest)))
	if err != nil {
		return nil, err
	}
	names := []string{"runaway-a", "runaway-b"}[:n]
	for _, name := range names {
		_, err := client.Deploy(ctx, admin.DeployRequest{CreateTopics: true, Spec: deploy.Spec{
			Name: name, Module: info.Digest, Inputs: []string{runawayTopic}, Outputs: []deploy.Output{{Topic: name + ".out"}},
			Config: map[string]string{"mode": "endless"}, Start: "earliest", Limits: deploy.Limits{FuelPerRecord: deploy.MaxFuelPerRecord, WallTime: deploy.MaxWallTime},
		}})
		if err != nil {
			return nil, err
		}
	}
	if err := produceOnce(ctx, s.address, runawayTopic); err != nil {
		return nil, err
	}
	if err := awaitRunning(ctx, client, names); err != nil {
		return nil, err
	}
	return writeLatencies(ctx, s.address)
}

func produceOnce(ctx context.Context, address, topic string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer client.Close()
	return client.ProduceSync(ctx, &kgo.Record{Value: []byte("go")}).FirstErr()
}

// awaitRunning waits until each deployment has its partition, and then a little until its guest runs.
func awaitRunning(ctx context.Context, client *admin.Client, names []string) error {
	for _, name := range names {
		for {
			s, err := client.Get(ctx, name)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(s.Partitions, func(p admin.PartitionStatus) bool { return p.Running }) {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	time.Sleep(300 * time.Millisecond)
	return nil
}
