package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/runtime/host"
)

// runaway: a guest that never ends, while garbage collections are forced.
func (b *bench) runaway(ctx context.Context) error {
	h, err := host.New(ctx, host.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = h.Close(ctx) }()
	const wallTime = 500 * time.Millisecond
	p, err := h.Compile(ctx, b.guest, host.Limits{WallTime: wallTime, FuelPerCall: 1 << 50})
	if err != nil {
		return err
	}
	i, err := p.Instantiate(ctx, host.Setup{Deployment: "runaway", Inputs: []string{"in"}, Outputs: []string{"out"}, Config: map[string]string{"mode": "endless"}}, nil)
	if err != nil {
		return err
	}
	defer func() { _ = i.Close(ctx) }()
	view, err := i.Input(ctx, 64)
	if err != nil {
		return err
	}
	size := oneRecord(view)
	stop := ticker()
	began := time.Now()
	_, err = i.Process(ctx, host.Batch{Count: 1, SizeBytes: size, Now: began})
	took, longest := time.Since(began), stop()
	if trap := new(host.Trap); !errors.As(err, &trap) {
		return fmt.Errorf("the endless guest ended with %v", err)
	}
	fmt.Printf("  endless loop, wall time limit %v, garbage collections without pause meanwhile\n", wallTime)
	fmt.Printf("  %-66s %10v   goal ≤ 250ms\n", "stopped after its limit by", (took - wallTime).Round(time.Millisecond/10))
	fmt.Printf("  %-66s %10v   goal ≤ 50ms\n", "longest gap of a 1 ms ticker in the same process", longest.Round(time.Millisecond/10))
	return nil
}

// oneRecord writes a record without key, value or headers.
func oneRecord(dst []byte) int {
	rec := [32]byte{0: 32, 4: 255, 5: 255, 6: 255, 7: 255, 8: 255, 9: 255, 10: 255, 11: 255}
	return copy(dst, rec[:])
}
