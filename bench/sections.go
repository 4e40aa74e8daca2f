package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type bench struct {
	binary string
	dir    string
	bytes  int
	large  int64 // bytes of the large topic
	guest  []byte
	// identity and upper keep the embedded path's figures by record size, for later sections.
	identity, upper map[int]pathRun
}

var sizes = []int{100, 1024}

func (b *bench) run(ctx context.Context, only []string) error {
	machine()
	var err error
	if b.guest, err = buildGuest(b.dir); err != nil {
		return err
	}
	b.identity, b.upper = map[int]pathRun{}, map[int]pathRun{}
	sections := []struct {
		name string
		run  func(context.Context) error
	}{{"path", b.path}, {"peer", b.peer}, {"broker", b.broker}, {"durable", b.durable}, {"once", b.once}, {"external", b.external}, {"fuel", b.fuel}, {"live", b.live}, {"hostile", b.hostile}, {"scale", b.scale}}
	for _, s := range sections {
		if !slices.Contains(only, s.name) {
			continue
		}
		if err := warmPages(b.dir, 4*int64(b.bytes)); err != nil {
			return err
		}
		if err := s.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// warmPages writes and removes a file, so that the page cache and the heaps of what follows are made of memory that
// a virtual machine has been given just before. The first touch of a page is charged to whoever comes first and costs
// ten times what writing it does (0.15 µs a KiB, then 1.7 to 2.8 µs); a guest that reports its free pages to the host
// (CONFIG_PAGE_REPORTING) loses them again after two seconds. So this is done before each thing that is measured.
func warmPages(dir string, bytes int64) error {
	f, err := os.Create(filepath.Join(dir, "warm"))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close(); _ = os.Remove(f.Name()) }()
	chunk := make([]byte, 1<<20)
	for at := int64(0); at < bytes; at += int64(len(chunk)) {
		if _, err := f.WriteAt(chunk, at); err != nil {
			return err
		}
	}
	return nil
}

func title(format string, args ...any) { fmt.Printf("\n## "+format+"\n\n", args...) }

// ratio prints one ratio against its goal.
func ratio(what string, value float64, goal string) {
	fmt.Printf("  %-66s %8.2f   goal %s\n", what, value, goal)
}

// path: the embedded path against the sum of its unavoidable steps.
func (b *bench) path(ctx context.Context) error {
	title("Embedded path, log → guest → log: exactly once, the disk is not waited for, one partition, identity, fuel on, uncompressed; CPU per record")
	for _, size := range sizes {
		w, err := newWork(b.dir, size, b.bytes/size)
		if err != nil {
			return err
		}
		g, err := newBareGuest(ctx, b.guest, true, false)
		if err != nil {
			return err
		}
		g.load(w.flat, w.count)
		steps := w.steps(func() error { return g.run(ctx) })
		cost, err := w.measure(steps)
		w.close()
		_ = g.runtime.Close(ctx)
		if err != nil {
			return err
		}
		sum := 0.0
		fmt.Printf("  %d B values, %d records a batch\n", size, w.count)
		for i, s := range steps {
			fmt.Printf("    %-34s %8.1f ns   (%.1f–%.1f)\n", s.name, cost[i].median, cost[i].min, cost[i].max)
			sum += cost[i].median
		}
		run, err := b.best(ctx, "identity", size)
		if err != nil {
			return err
		}
		b.identity[size] = run
		fmt.Printf("    %-34s %8.1f ns\n    %-34s %8.1f ns   %.2f M records/s of wall time\n", "sum of the steps", sum,
			"the path", run.nsPerRecord(), float64(run.records)/run.wall.Seconds()/1e6)
		ratio(fmt.Sprintf("path / sum of steps, %d B", size), run.nsPerRecord()/sum, "≤ 1.3")
	}
	return nil
}

// best is the median of three passes by CPU, exactly once, without waiting for the disk.
func (b *bench) best(ctx context.Context, mode string, size int) (pathRun, error) {
	return b.median(ctx, pass{config: map[string]string{"mode": mode}, partitions: 1, size: size, total: b.bytes / size})
}

func (b *bench) median(ctx context.Context, p pass) (pathRun, error) {
	var runs []pathRun
	for range 3 {
		if err := warmPages(b.dir, 3*int64(p.total*p.size)); err != nil {
			return pathRun{}, err
		}
		r, err := path(ctx, b.guest, p)
		if err != nil {
			return r, err
		}
		runs = append(runs, r)
	}
	slices.SortFunc(runs, func(x, y pathRun) int { return int(x.cpu - y.cpu) })
	return runs[1], nil
}

// peer: consume, upper-case, produce, against a Go program with franz-go and kfake.
func (b *bench) peer(ctx context.Context) error {
	title("Consume, upper-case, produce: exactly once, embedded, against franz-go transactions + kfake (client and server), and JetStream (at least once)")
	for _, size := range sizes {
		ours, err := b.best(ctx, "upper", size)
		if err != nil {
			return err
		}
		b.upper[size] = ours
		n := min(1_000_000, b.bytes/size)
		var walls, cpus []float64
		for range 3 {
			s, err := startKfake()
			if err != nil {
				return err
			}
			if _, _, err := produce(ctx, s.address, "in", values(n, size), kgo.AllISRAcks()); err != nil {
				return err
			}
			server := s.cpu()
			wall, cpu, err := bareLoop(ctx, s.address, n)
			if err != nil {
				return err
			}
			walls = append(walls, float64(wall)/float64(n))
			cpus = append(cpus, float64(cpu+s.cpu()-server)/float64(n))
			s.stop()
		}
		wall, cpu := summarize(walls), summarize(cpus)
		ourWall := float64(ours.wall) / float64(ours.records)
		fmt.Printf("  %d B: ours %.0f ns CPU, %.0f ns wall a record; franz-go + kfake %.0f ns CPU (%.0f–%.0f), %.0f ns wall (%.0f–%.0f)\n",
			size, ours.nsPerRecord(), ourWall, cpu.median, cpu.min, cpu.max, wall.median, wall.min, wall.max)
		ratio(fmt.Sprintf("peer / ours, rate by wall time, %d B", size), wall.median/ourWall, "–")
		ratio(fmt.Sprintf("peer / ours, CPU, %d B", size), cpu.median/ours.nsPerRecord(), "≥ 7")
		stream, err := jetstreamTransform(ctx, values(min(250_000, n), size))
		if err != nil {
			return err
		}
		fmt.Printf("  %d B: JetStream, consume, upper-case, publish %.0f ns CPU\n", size, stream)
		ratio(fmt.Sprintf("ours / JetStream, CPU of both ends, %d B", size), ours.nsPerRecord()/stream, "≤ 0.03")
	}
	return nil
}

// broker: server CPU of produce and consume, ours against kfake, same client.
func (b *bench) broker(ctx context.Context) error {
	title("Broker: server CPU per record, same client, each server in its own process")
	for _, size := range sizes {
		n := min(1_000_000, b.bytes/size)
		vals := values(n, size)
		var figures [2][3][]float64 // [ours, kfake][produce, durable produce, consume]
		for round := range 3 {
			for _, which := range []int{round % 2, 1 - round%2} {
				took, err := b.brokerRound(ctx, which == 0, vals, fmt.Sprintf("broker-%d-%d", size, round))
				if err != nil {
					return err
				}
				for i, ns := range took {
					figures[which][i] = append(figures[which][i], ns)
				}
			}
		}
		for i, what := range []string{"produce (acks=1)", "produce (fsync)", "consume"} {
			ours, peer := summarize(figures[0][i]), summarize(figures[1][i])
			fmt.Printf("  %d B %-17s ours %.0f ns (%.0f–%.0f), kfake %.0f ns (%.0f–%.0f)\n", size, what, ours.median, ours.min, ours.max, peer.median, peer.min, peer.max)
			ratio(fmt.Sprintf("ours / kfake, %s, %d B", what, size), ours.median/peer.median, [...]string{"≤ 0.5", "≤ 1.0", "≤ 0.5"}[i])
		}
		few := vals[:min(len(vals), 200_000)]
		publish, read, err := jetstreamRound(ctx, few)
		if err != nil {
			return fmt.Errorf("JetStream: %w", err)
		}
		fmt.Printf("  %d B JetStream: publish %.0f ns, consume without acknowledgement %.0f ns (%d records)\n", size, publish, read, len(few))
		ratio(fmt.Sprintf("ours / JetStream, produce, %d B", size), summarize(figures[0][0]).median/publish, "–")
		ratio(fmt.Sprintf("ours / JetStream, consume, %d B", size), summarize(figures[0][2]).median/read, "–")
	}
	return nil
}

// durable: what waiting for the disk costs when several producers share it.
func (b *bench) durable(ctx context.Context) error {
	title("Durable produce: acks=all, answered after fsync, against acks=1; 8 producers, one partition, wall time")
	for _, size := range sizes {
		const producers = 8
		vals := values(max(1, b.bytes/size/producers/2), size)
		var rates [2][]float64
		for round := range 3 {
			for i, acks := range []kgo.Acks{kgo.AllISRAcks(), kgo.LeaderAck()} {
				if err := warmPages(b.dir, 3*int64(b.bytes)); err != nil {
					return err
				}
				s, _, _, err := startMillstream(b.binary, filepath.Join(b.dir, fmt.Sprintf("durable-%d-%d-%d", size, round, i)))
				if err != nil {
					return err
				}
				err = createTopic(ctx, s.address, "in")
				var wall time.Duration
				if err == nil {
					wall, err = produceFrom(ctx, producers, s.address, vals, acks)
				}
				s.stop()
				if err != nil {
					return err
				}
				rates[i] = append(rates[i], float64(producers*len(vals))/wall.Seconds())
			}
		}
		all, one := summarize(rates[0]), summarize(rates[1])
		fmt.Printf("  %d B: acks=all %.2f M records/s (%.2f–%.2f), acks=1 %.2f M (%.2f–%.2f)\n", size, all.median/1e6, all.min/1e6, all.max/1e6, one.median/1e6, one.min/1e6, one.max/1e6)
		ratio(fmt.Sprintf("acks=all / acks=1, rate, %d B", size), all.median/one.median, "≥ 0.75")
	}
	return nil
}

// brokerRound returns the server's CPU time per record, in ns, of a produce that does not wait for the disk, of one that
// does (acks=all; kfake has no disk), and of reading the records of the first.
func (b *bench) brokerRound(ctx context.Context, ours bool, vals [][]byte, name string) (ns [3]float64, err error) {
	if err := warmPages(b.dir, 5*int64(len(vals)*len(vals[0]))); err != nil {
		return ns, err
	}
	var s *peerProcess
	if ours {
		s, _, _, err = startMillstream(b.binary, filepath.Join(b.dir, name))
	} else {
		s, err = startKfake()
	}
	if err != nil {
		return ns, err
	}
	defer s.stop()
	for _, topic := range []string{"in", "durable"} {
		if err := createTopic(ctx, s.address, topic); err != nil {
			return ns, err
		}
	}
	for i, step := range []func() error{
		func() error { _, _, err := produce(ctx, s.address, "in", vals, kgo.LeaderAck()); return err },
		func() error { _, _, err := produce(ctx, s.address, "durable", vals, kgo.AllISRAcks()); return err },
		func() error { _, _, err := consume(ctx, s.address, len(vals)); return err },
	} {
		before := s.cpu()
		if err := step(); err != nil {
			return ns, err
		}
		ns[i] = float64(s.cpu()-before) / float64(len(vals))
	}
	return ns, nil
}

// fuel: what metering costs on the whole path, and what it buys.
func (b *bench) fuel(ctx context.Context) error {
	title("Fuel metering")
	for _, mode := range []string{"identity", "upper"} {
		for _, size := range sizes {
			with, without, err := b.guestCost(ctx, mode, size)
			if err != nil {
				return err
			}
			known := b.identity
			if mode == "upper" {
				known = b.upper
			}
			run, ok := known[size]
			if !ok {
				if run, err = b.best(ctx, mode, size); err != nil {
					return err
				}
			}
			whole := run.nsPerRecord()
			fmt.Printf("  %s, %d B: guest %.1f ns with, %.1f ns without; whole path %.1f ns\n", mode, size, with.median, without.median, whole)
			ratio(fmt.Sprintf("whole path with / without fuel, %s, %d B", mode, size), whole/(whole-with.median+without.median), "≤ 1.15")
		}
	}
	return b.runaway(ctx)
}

func (b *bench) guestCost(ctx context.Context, mode string, size int) (with, without sample, err error) {
	w, err := newWork(b.dir, size, 1)
	if err != nil {
		return with, without, err
	}
	defer w.close()
	var steps []step
	for _, metered := range []bool{true, false} {
		g, err := newBareGuest(ctx, b.guest, metered, mode == "upper")
		if err != nil {
			return with, without, err
		}
		defer func() { _ = g.runtime.Close(ctx) }()
		g.load(w.flat, w.count)
		steps = append(steps, step{mode, func() error { return g.run(ctx) }})
	}
	cost, err := w.measure(steps)
	if err != nil {
		return with, without, err
	}
	return cost[0], cost[1], nil
}

// live: what a user of a running server sees.
func (b *bench) live(ctx context.Context) error {
	title("A running server")
	r, err := live(ctx, b.binary, b.guest, b.dir)
	if err != nil {
		return err
	}
	row := func(what string, value any, goal string) { fmt.Printf("  %-66s %10v   goal %s\n", what, value, goal) }
	row("binary, MB", fmt.Sprintf("%.1f", float64(r.binaryBytes)/1e6), "≤ 40")
	row("start on an empty directory until ready, median", quantile(r.ready, 0.5).Round(time.Millisecond/10), "≤ 100ms")
	row("resident when idle, MB, largest", fmt.Sprintf("%.1f", float64(r.residentBytes)/1e6), "≤ 40")
	row(fmt.Sprintf("deploy of a module of %d KB, whole command", r.moduleBytes/1000), r.deployed.Round(time.Millisecond), "≤ 300ms")
	row("first output after deploy, from produce", r.firstOutput.Round(time.Millisecond/10), "–")
	row("produce → output, idle topic, p50", quantile(r.latency, 0.5).Round(time.Millisecond/100), "–")
	row("produce → output, idle topic, p99", quantile(r.latency, 0.99).Round(time.Millisecond/100), "≤ 50ms")
	return nil
}
