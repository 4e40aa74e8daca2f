package crashtest

import (
	"errors"
	"math/rand/v2"
	"os"
	"slices"
)

// fate is what becomes of the writes that a disk has taken and not flushed.
type fate int

const (
	allLost    fate = iota // the cache of the disk was lost
	allKept                // it was not: a prefix of what was written
	someLost               // some writes are there, whichever came first
	lastTorn               // the last one is there in part
	sectorsOut             // each sector has its own luck
	lateKept               // the later half is there, the earlier is not
	fates
)

func (f fate) String() string {
	return [...]string{"all that was not flushed is lost", "nothing is lost", "some writes are lost",
		"the last write is torn", "some sectors are lost", "the earlier half of the writes is lost"}[f]
}

// superblockEnd is behind the superblock of ext4. It is the one thing that ext4
// writes in place and trusts to be whole: torn, it takes an operator with a backup of it.
const superblockEnd = 4096

// apply returns the disk as the cut leaves it. Writes of one place keep their order, as on any disk.
func (f fate) apply(durable []byte, pending []blockEvent, rng *rand.Rand) []byte {
	disk := slices.Clone(durable)
	for i, w := range pending {
		sector := sectorBytes
		if w.at < superblockEnd {
			sector = len(w.data)
		}
		sectors := (len(w.data) + sector - 1) / sector
		keep := func(int) bool { return false }
		switch f {
		case allKept:
			keep = func(int) bool { return true }
		case someLost:
			here := rng.IntN(2) == 0
			keep = func(int) bool { return here }
		case lastTorn:
			from := sectors
			if i == len(pending)-1 {
				from = rng.IntN(sectors)
			}
			keep = func(s int) bool { return s < from }
		case sectorsOut:
			keep = func(int) bool { return rng.IntN(2) == 0 }
		case lateKept:
			keep = func(int) bool { return i >= len(pending)/2 }
		}
		for s := range sectors {
			if keep(s) {
				from, to := s*sector, min((s+1)*sector, len(w.data))
				copy(disk[w.at+int64(from):], w.data[from:to])
			}
		}
	}
	return disk
}

// writeSparse writes a file and leaves out what is zero anyway.
func writeSparse(path string, b []byte) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(int64(len(b))); err != nil {
		return err
	}
	const chunk = 64 << 10
	zero := make([]byte, chunk)
	for at := 0; at < len(b); at += chunk {
		part := b[at:min(at+chunk, len(b))]
		if slices.Equal(part, zero[:len(part)]) {
			continue
		}
		if _, err := f.WriteAt(part, int64(at)); err != nil {
			return err
		}
	}
	return nil
}
