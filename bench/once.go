package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/sdk/abi"
	"golang.org/x/sys/unix"
)

// once: what exactly-once delivery costs, and what waiting for the disk does.
func (b *bench) once(ctx context.Context) error {
	title("Exactly once, embedded: whole path through a deployment, identity; rounds in turn")
	for _, size := range sizes {
		base := pass{config: map[string]string{"mode": "identity"}, partitions: 1, size: size, total: b.bytes / size}
		variants := []pass{base, base, base, base}
		variants[1].delivery = deploy.DeliveryAtLeastOnce
		variants[2].flush = true
		variants[3].partitions, variants[3].total = 2, 2*base.total // each has as much as the one
		cpus, rates := make([][]float64, len(variants)+1), make([][]float64, len(variants)+1)
		var copies [2][]float64
		for range 3 {
			for loops := range copies {
				err := warmPages(b.dir, 3*int64(loops+1)*int64(b.bytes))
				if err != nil {
					return err
				}
				rate, err := b.copies(loops+1, (loops+1)*b.bytes)
				if err != nil {
					return err
				}
				copies[loops] = append(copies[loops], rate)
			}
			for i, v := range variants {
				if err := warmPages(b.dir, 3*int64(v.total*v.size)); err != nil {
					return err
				}
				r, err := path(ctx, b.guest, v)
				if err != nil {
					return err
				}
				cpus[i], rates[i] = append(cpus[i], r.nsPerRecord()), append(rates[i], r.rate())
			}
			r, err := b.native(ctx, size)
			if err != nil {
				return err
			}
			last := len(variants)
			cpus[last], rates[last] = append(cpus[last], r.nsPerRecord()), append(rates[last], r.rate())
		}
		for i, name := range []string{"exactly once", "at least once", "exactly once, flushed", "exactly once, two partitions", "exactly once, Go instead of the guest"} {
			cpu, rate := summarize(cpus[i]), summarize(rates[i])
			fmt.Printf("  %d B %-38s %6.0f ns CPU (%.0f–%.0f), %.2f M records/s (%.2f–%.2f)\n", size, name, cpu.median, cpu.min, cpu.max,
				rate.median/1e6, rate.min/1e6, rate.max/1e6)
		}
		cpu := func(i int) float64 { return summarize(cpus[i]).median }
		rate := func(i int) float64 { return summarize(rates[i]).median }
		ratio(fmt.Sprintf("exactly once / at least once, CPU, %d B", size), cpu(0)/cpu(1), "≤ 1.05")
		ratio(fmt.Sprintf("flushed / not, rate, %d B", size), rate(2)/rate(0), "≥ 0.75")
		ratio(fmt.Sprintf("two partitions / one, rate, %d B", size), rate(3)/rate(0), "≥ 1.8")
		ratio("  the same, CPU per record", cpu(3)/cpu(0), "–")
		ratio("  two loops that only read and write / one", summarize(copies[1]).median/summarize(copies[0]).median, "–")
		ratio(fmt.Sprintf("rate by CPU / that of Go code through the same log, %d B", size), cpu(4)/cpu(0), "≥ 0.8")
	}
	if err := b.commits(ctx); err != nil {
		return err
	}
	return b.latency(ctx)
}

// copier takes records from a session to its output by Go code, as a guest would.
type copier struct {
	session engine.Session
	fetch   engine.Fetch
	next    int
}

// Next implements abi.Outputs.
func (c *copier) Next(o *abi.Output) bool {
	if c.next >= c.fetch.Len() {
		return false
	}
	r := c.fetch.Record(c.next)
	*o = abi.Output{Input: c.next, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value}
	c.next++
	return true
}

// copy copies records, with a commit after so many bytes, and returns how long each commit took.
func (c *copier) copy(ctx context.Context, records, commitBytes int) (commits []time.Duration, err error) {
	outputs := []string{"out"}
	for done, bytes := 0, 0; done < records; {
		if c.fetch, err = c.session.Poll(ctx, stepBatchBytes); err != nil {
			return nil, err
		}
		if bytes == 0 {
			if err := c.session.Begin(outputs); err != nil {
				return nil, err
			}
		}
		c.next = 0
		if err := c.session.Produce(ctx, c); err != nil {
			return nil, err
		}
		done += c.fetch.Len()
		if bytes += stepBatchBytes; bytes < commitBytes && done < records {
			continue
		}
		began := time.Now()
		if err := c.session.Commit(ctx, c.fetch.NextOffset(c.fetch.Len()-1)); err != nil {
			return nil, err
		}
		commits, bytes = append(commits, time.Since(began)), 0
	}
	return commits, nil
}

// openCopy fills topic "in" and joins.
func openCopy(ctx context.Context, n *node, size, total int) (c *copier, records int, err error) {
	for _, name := range []string{"in", "out"} {
		if err := n.engine.EnsureTopic(ctx, name, 1, nil); err != nil {
			return nil, 0, err
		}
	}
	if records, err = fill(ctx, n.broker.Topics(), 1, size, total); err != nil {
		return nil, 0, err
	}
	m, err := n.engine.Join(ctx, engine.Group{Name: "copy", Inputs: []string{"in"}, Start: engine.Start{Kind: engine.StartEarliest}})
	if err != nil {
		return nil, 0, err
	}
	sessions, err := m.Next(ctx)
	if err != nil || len(sessions) != 1 {
		return nil, 0, fmt.Errorf("%d sessions: %w", len(sessions), err)
	}
	return &copier{session: sessions[0]}, records, nil
}

// native is the path with Go code in the guest's place.
func (b *bench) native(ctx context.Context, size int) (pathRun, error) {
	n, err := openNode(ctx, false)
	if err != nil {
		return pathRun{}, err
	}
	defer n.close(ctx)
	c, records, err := openCopy(ctx, n, size, b.bytes/size)
	if err != nil {
		return pathRun{}, err
	}
	t0, c0 := time.Now(), processCPU()
	if _, err := c.copy(ctx, records, 16<<20); err != nil {
		return pathRun{}, err
	}
	run := pathRun{records: records, cpu: processCPU() - c0, wall: time.Since(t0)}
	return run, wantRecords(ctx, n.engine, records)
}

// commits: how long a commit of about 64 KiB takes, against the disk's own flush of as much.
func (b *bench) commits(ctx context.Context) error {
	flush, err := flushes(b.dir)
	if err != nil {
		return err
	}
	n, err := openNode(ctx, true)
	if err != nil {
		return err
	}
	defer n.close(ctx)
	c, records, err := openCopy(ctx, n, 100, 500*stepBatchBytes/111)
	if err != nil {
		return err
	}
	commits, err := c.copy(ctx, records, 1)
	if err != nil {
		return err
	}
	disk := quantile(flush, 0.5)
	fmt.Printf("  fdatasync of 64 KiB p50 %v, p99 %v; commit of %d KiB p50 %v, p99 %v\n", disk, quantile(flush, 0.99), stepBatchBytes>>10,
		quantile(commits, 0.5), quantile(commits, 0.99))
	ratio("commit p50 / fdatasync p50", float64(quantile(commits, 0.5))/float64(disk), "≤ 4")
	ratio("commit p99 / fdatasync p50", float64(quantile(commits, 0.99))/float64(disk), "≤ 15")
	return nil
}

// flushes measures the disk alone.
func flushes(dir string) (took []time.Duration, err error) {
	f, err := os.Create(filepath.Join(dir, "flush"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close(); _ = os.Remove(f.Name()) }()
	chunk := make([]byte, 64<<10)
	for i := range int64(500) {
		if _, err := f.WriteAt(chunk, i*int64(len(chunk))); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

// latency: from the moment at which a record was to be produced to the moment at which its
// output is shown to readers of committed records, 1,000 records a second, everything flushed.
func (b *bench) latency(ctx context.Context) error {
	n, err := openNode(ctx, true)
	if err != nil {
		return err
	}
	defer n.close(ctx)
	if err := n.deploy(ctx, "bench", b.guest, map[string]string{"mode": "identity"}, "out"); err != nil {
		return err
	}
	in, err := n.broker.Topics().Partition("in", 0)
	if err != nil {
		return err
	}
	const count, warm = 4000, 500
	began := time.Now()
	due := func(i int) time.Time { return began.Add(time.Duration(i) * time.Millisecond) }
	produced := make(chan error, 1)
	go func() {
		var w record.Builder
		var batch []byte
		for i := range count {
			time.Sleep(time.Until(due(i)))
			w.Reset(batch[:0], record.None)
			w.Append(time.Now().UnixMilli(), nil, binary.LittleEndian.AppendUint64(make([]byte, 0, 100), uint64(i))[:100], nil, 0)
			batch = w.Finish()
			if _, err := in.Append(ctx, batch, topic.FromClient); err != nil {
				produced <- err
				return
			}
		}
		produced <- nil
	}()
	var took []time.Duration
	stop := fmt.Errorf("enough")
	err = n.engine.Follow(ctx, "out", nil, func(_ int32, r engine.Record) error {
		i := int(binary.LittleEndian.Uint64(r.Value))
		if took = append(took, time.Since(due(i))); len(took) == count {
			return stop
		}
		return nil
	})
	if err != stop {
		return err
	}
	took = slices.Clone(took[warm:])
	row := func(what string, q float64, goal string) {
		fmt.Printf("  %-66s %8v   goal %s\n", what, quantile(took, q).Round(time.Millisecond/100), goal)
	}
	row("produce → visible output, 1,000 records/s, flushed, p50", 0.5, "≤ 5ms")
	row("produce → visible output, 1,000 records/s, flushed, p99", 0.99, "≤ 20ms")
	return <-produced
}
