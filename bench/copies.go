package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// appendBytes is about what the embedded path appends at once to a partition that much is written to.
const appendBytes = 256 << 10

// copies is the rate, in bytes a second of wall time, at which so many loops at once read files of total bytes in all from the page
// cache and write them to new files, in the steps of the path, and do nothing else: what two
// partitions can gain over one where most of the time is the kernel's.
func (b *bench) copies(loops, total int) (float64, error) {
	files := make([][2]*os.File, loops) // in, out
	defer func() {
		for _, pair := range files {
			for _, f := range pair {
				if f != nil {
					_ = f.Close()
					_ = os.Remove(f.Name())
				}
			}
		}
	}()
	chunk := make([]byte, appendBytes)
	each := total / loops / appendBytes
	for i := range files {
		for side := range files[i] {
			f, err := os.Create(filepath.Join(b.dir, fmt.Sprintf("copy-%d-%d", i, side)))
			if err != nil {
				return 0, err
			}
			files[i][side] = f
		}
		for n := range each {
			if _, err := files[i][0].WriteAt(chunk, int64(n)*appendBytes); err != nil {
				return 0, err
			}
		}
	}
	var g errgroup.Group
	began := time.Now()
	for _, pair := range files {
		g.Go(func() error { return copyFile(pair[0], pair[1], each) })
	}
	err := g.Wait()
	return float64(loops*each*appendBytes) / time.Since(began).Seconds(), err
}

// copyFile copies so many appends, each read in halves.
func copyFile(in, out *os.File, appends int) error {
	buffer := make([]byte, appendBytes)
	for n := range appends {
		at := int64(n) * appendBytes
		for half := 0; half < appendBytes; half += appendBytes / 2 {
			if _, err := in.ReadAt(buffer[half:half+appendBytes/2], at+int64(half)); err != nil {
				return err
			}
		}
		if _, err := out.WriteAt(buffer, at); err != nil {
			return err
		}
	}
	return nil
}
