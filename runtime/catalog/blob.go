package catalog

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/module"
)

type blobKey struct {
	kind   Kind
	digest module.Digest
}

func (k blobKey) String() string { return string(k.kind) + " " + k.digest.String() }

// blob is one module or asset: parts until all are there and prove to be what the digest says, then bytes.
type blob struct {
	bytes []byte   // nil: incomplete or damaged
	parts [][]byte // values of records; index = part, nil entries are missing
	put   time.Time
}

func (b *blob) size() int {
	size := len(b.bytes)
	for _, p := range b.parts {
		size += len(p)
	}
	return size
}

// Blob returns the bytes of a module or asset; the caller must not change
// them. Errors wrap ErrNotFound or ErrDamaged.
func (c *Catalog) Blob(kind Kind, d module.Digest) ([]byte, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	key := blobKey{kind, d}
	b, ok := c.blobs[key]
	if !ok {
		return nil, fmt.Errorf("%v: %w: upload it", key, ErrNotFound)
	}
	if b.bytes != nil {
		return b.bytes, nil
	}
	joined, _, err := joinParts(b.parts)
	if err == nil {
		err = fmt.Errorf("its bytes have the digest %v", module.DigestOf(joined))
	}
	return nil, fmt.Errorf("%v: %w: %w; upload it again", key, ErrDamaged, err)
}

// PutBlob stores a module or asset and returns its digest. Storing what is there only renews its grace period. b is not kept.
func (c *Catalog) PutBlob(ctx context.Context, kind Kind, b []byte) (module.Digest, error) {
	key := blobKey{kind, module.DigestOf(b)}
	if len(b) > MaxBlobBytes {
		return key.digest, fmt.Errorf("%w: a %s of %d bytes is over the limit of %d", ErrFull, kind, len(b), MaxBlobBytes)
	}
	if err := c.lock(ctx); err != nil {
		return key.digest, err
	}
	defer c.unlock()
	if err := c.Refresh(ctx); err != nil {
		return key.digest, err
	}
	now := time.Now()
	records := blobRecords(key, b, now)
	if put, sound := c.lastPut(key); !sound {
		if err := c.makeRoom(ctx, len(b)); err != nil {
			return key.digest, err
		}
	} else if now.Sub(put) < GracePeriod/2 {
		return key.digest, nil
	} else {
		records = records[:1] // its time is that of the blob's youngest part
	}
	for _, r := range records {
		// One append for each part: together they would be one batch over max.message.bytes.
		if err := c.log.Append(ctx, c.topic, []engine.Record{r}); err != nil {
			return key.digest, fmt.Errorf("store %v: %w", key, err)
		}
	}
	return key.digest, c.Refresh(ctx)
}

// lastPut tells whether a blob is there and sound, and when it was put.
func (c *Catalog) lastPut(key blobKey) (put time.Time, sound bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	b := c.blobs[key]
	if b == nil || b.bytes == nil {
		return time.Time{}, false
	}
	return b.put, true
}

// blobRecords cuts b into records; an empty blob is one empty part.
func blobRecords(k blobKey, b []byte, now time.Time) []engine.Record {
	parts := cut(b)
	records := make([]engine.Record, len(parts))
	for i, value := range parts {
		records[i] = engine.Record{Key: partRecordKey(k, i), Value: value, Timestamp: now.UnixMilli()}
	}
	return records
}

// cut returns the values of a blob's records.
func cut(b []byte) [][]byte {
	count := max(1, (len(b)+PartBytes-1)/PartBytes)
	parts := make([][]byte, count)
	for i := range parts {
		part := b[i*PartBytes : min(len(b), (i+1)*PartBytes)]
		value := make([]byte, partHeaderBytes, partHeaderBytes+len(part))
		value[0] = FormatVersion
		binary.BigEndian.PutUint32(value[4:], uint32(count))
		parts[i] = append(value, part...)
	}
	return parts
}

// setPart applies the record of a part; a nil value is a tombstone. The catalog's mutex is held.
func (t *state) setPart(key blobKey, part int, value []byte, put time.Time) {
	b := t.blobs[key]
	if b == nil {
		if value == nil {
			return
		}
		b = &blob{}
		t.blobs[key] = b
	}
	t.storedBytes -= b.size()
	defer func() { t.storedBytes += b.size() }()
	if value != nil {
		b.put = put
	}
	if b.bytes != nil {
		parts := cut(b.bytes)
		if value != nil && part < len(parts) && bytes.Equal(parts[part], value) {
			return // put again to renew its time
		}
		b.bytes, b.parts = nil, parts
	}
	for len(b.parts) <= part {
		b.parts = append(b.parts, nil)
	}
	b.parts[part] = bytes.Clone(value)
	joined, present, err := joinParts(b.parts)
	switch {
	case present == 0: // every part has a tombstone
		b.parts = nil
		delete(t.blobs, key)
	case err == nil && module.DigestOf(joined) == key.digest:
		b.bytes, b.parts = joined, nil
	}
}

// joinParts puts the values of the parts together; present tells how many there are.
func joinParts(parts [][]byte) (joined []byte, present int, err error) {
	count := 0
	for i, p := range parts {
		if p == nil {
			continue
		}
		present++
		if len(p) < partHeaderBytes {
			return nil, present, fmt.Errorf("part %d has %d bytes, less than its header", i, len(p))
		}
		if p[0] != FormatVersion {
			return nil, present, fmt.Errorf("part %d has format %d, this version reads format %d", i, p[0], FormatVersion)
		}
		n := int(binary.BigEndian.Uint32(p[4:]))
		if n < 1 || n > maxParts || (count != 0 && n != count) {
			return nil, present, fmt.Errorf("part %d claims %d parts, another %d", i, n, count)
		}
		count = n
	}
	if present == 0 {
		return nil, 0, nil
	}
	size := 0
	for i := range count {
		if i >= len(parts) || parts[i] == nil {
			return nil, present, fmt.Errorf("part %d of %d is missing", i, count)
		}
		size += len(parts[i]) - partHeaderBytes
	}
	joined = make([]byte, 0, size)
	for _, p := range parts[:count] {
		joined = append(joined, p[partHeaderBytes:]...)
	}
	return joined, present, nil
}
