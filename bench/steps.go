package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// The sum of the unavoidable steps is the reference of the embedded path:
// each step of log → guest → log measured alone, on this machine, in this run, by loops that do
// nothing else. What the path costs above it is what Millstream adds.

// stepBatchBytes is about what one batch of the path holds.
const stepBatchBytes = 105 << 10

// work is a batch in the forms the steps need.
type work struct {
	size    int // value bytes
	count   int
	log     []byte // one RecordBatch v2
	flat    []byte // the guest's input form
	scratch []byte
	in      *os.File
	batches int // in the file in
	next    int // of them, to be read
	out     *os.File
	written int64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// newWork makes the work of steps; the file that is read holds about total values, as the path's does: one that is
// read again and again while it is small comes out of a cache of the CPU.
func newWork(dir string, size, total int) (*work, error) {
	w := &work{size: size, count: stepBatchBytes / (size + 11)}
	w.batches = max(1, total/w.count)
	vals := values(w.count, size)
	w.log = encodeBatch(nil, vals)
	w.flat = make([]byte, 0, w.count*(size+32))
	w.scratch = make([]byte, 2*stepBatchBytes)
	w.decode()
	var err error
	if w.in, err = os.Create(filepath.Join(dir, "in")); err != nil {
		return nil, err
	}
	for i := range w.batches {
		if _, err := w.in.WriteAt(w.log, int64(i*len(w.log))); err != nil {
			return nil, err
		}
	}
	w.out, err = os.Create(filepath.Join(dir, "out"))
	return w, err
}

func (w *work) close() {
	for _, f := range []*os.File{w.in, w.out} {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}
}

// encodeBatch builds an uncompressed RecordBatch v2 of values without keys.
func encodeBatch(dst []byte, vals [][]byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, 61)...)
	for i, v := range vals {
		dst = appendRecord(dst, int64(i), v)
	}
	b := dst[start:]
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	b[16] = 2
	binary.BigEndian.PutUint32(b[23:], uint32(len(vals)-1))
	binary.BigEndian.PutUint64(b[43:], ^uint64(0))
	binary.BigEndian.PutUint16(b[51:], ^uint16(0))
	binary.BigEndian.PutUint32(b[53:], ^uint32(0))
	binary.BigEndian.PutUint32(b[57:], uint32(len(vals)))
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli))
	return dst
}

func appendRecord(dst []byte, delta int64, v []byte) []byte {
	var head [24]byte
	h := append(head[:0], 0, 0) // attributes, timestamp delta
	h = binary.AppendVarint(h, delta)
	h = binary.AppendVarint(h, -1)
	h = binary.AppendVarint(h, int64(len(v)))
	dst = binary.AppendVarint(dst, int64(len(h)+len(v)+1))
	dst = append(dst, h...)
	dst = append(dst, v...)
	return append(dst, 0)
}

// step is one unavoidable step: run does it for one batch.
type step struct {
	name string
	run  func() error
}

func (w *work) steps(guest func() error) []step {
	return []step{
		{"read (pread, page cache)", func() error {
			_, err := w.in.ReadAt(w.scratch[:len(w.log)], int64(w.next*len(w.log)))
			w.next = (w.next + 1) % w.batches
			return err
		}},
		{"check CRC-32C", func() error {
			if crc32.Checksum(w.log[21:], castagnoli) != binary.BigEndian.Uint32(w.log[17:]) {
				return fmt.Errorf("checksum differs")
			}
			return nil
		}},
		{"decode into the guest's form", func() error { w.decode(); return nil }},
		{"guest, identity, with fuel", guest},
		{"encode outputs + CRC-32C", func() error { w.encode(); return nil }},
		{"write (growing file)", func() error {
			n, err := w.out.WriteAt(w.log, w.written)
			w.written += int64(n)
			return err
		}},
	}
}

// decode turns the batch into flat records of the guest ABI.
func (w *work) decode() {
	dst := w.flat[:0]
	base, first := int64(binary.BigEndian.Uint64(w.log)), int64(binary.BigEndian.Uint64(w.log[27:]))
	for p := w.log[61:]; len(p) > 0; {
		size, n := uvarint(p)
		rec := p[n : n+size]
		p = p[n+size:]
		ts, a := varint(rec[1:])
		at := 1 + a
		delta, a := varint(rec[at:])
		at += a
		_, a = varint(rec[at:]) // no key
		at += a
		vlen, a := varint(rec[at:])
		at += a
		o := len(dst)
		dst = dst[:o+32+vlen]
		h := dst[o : o+32]
		binary.LittleEndian.PutUint32(h, uint32(32+vlen))
		binary.LittleEndian.PutUint32(h[4:], ^uint32(0))
		binary.LittleEndian.PutUint32(h[8:], uint32(vlen))
		binary.LittleEndian.PutUint32(h[12:], 0)
		binary.LittleEndian.PutUint64(h[16:], uint64(base+int64(delta)))
		binary.LittleEndian.PutUint64(h[24:], uint64(first+int64(ts)))
		copy(dst[o+32:], rec[at:at+vlen])
	}
	w.flat = dst
}

func varint(b []byte) (int, int) {
	u, n := raw(b)
	return int(u>>1) ^ -int(u&1), n
}

func uvarint(b []byte) (int, int) { return varint(b) }

func raw(b []byte) (uint64, int) {
	if b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return binary.Uvarint(b)
}

// encode turns flat records back into a batch.
func (w *work) encode() {
	dst := append(w.scratch[:0], w.log[:61]...)
	i := int64(0)
	for p := w.flat; len(p) > 0; i++ {
		size := binary.LittleEndian.Uint32(p)
		dst = appendRecord(dst, i, p[32:size])
		p = p[size:]
	}
	binary.BigEndian.PutUint32(dst[17:], crc32.Checksum(dst[21:], castagnoli))
}

// measure runs the steps in turn, several rounds, and returns thread CPU ns per record for each.
func (w *work) measure(steps []step) ([]sample, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const rounds = 9
	times := make([][]float64, len(steps))
	for round := range rounds + 1 {
		for s, st := range steps {
			// The file grows in every round anew; giving its pages back is not part of a write.
			w.written = 0
			if err := w.out.Truncate(0); err != nil {
				return nil, err
			}
			n := 0
			c0 := threadCPU()
			for threadCPU()-c0 < 20*time.Millisecond {
				for range 16 {
					if err := st.run(); err != nil {
						return nil, fmt.Errorf("%s: %w", st.name, err)
					}
					n++
				}
			}
			if round > 0 {
				times[s] = append(times[s], float64(threadCPU()-c0)/float64(n*w.count))
			}
		}
	}
	out := make([]sample, len(steps))
	for i := range steps {
		out[i] = summarize(times[i])
	}
	return out, nil
}
