package catalog

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/module"
)

// FormatVersion is the version of the records this package writes; it reads no other.
const FormatVersion = 1

// partHeaderBytes: version u8, three reserved bytes, part count u32 (big endian).
const partHeaderBytes = 8

// maxParts bounds what a damaged header can make a reader allocate.
const maxParts = (MaxBlobBytes + PartBytes - 1) / PartBytes

// storedDeployment is the value of a deployment's record.
type storedDeployment struct {
	Format int         `json:"format"`
	Spec   deploy.Spec `json:"spec"`
}

func deploymentRecordKey(name string) []byte { return []byte(deploymentKind + "/" + name) }

func partRecordKey(k blobKey, part int) []byte {
	return fmt.Appendf(nil, "%s/%s/%d", k.kind, k.digest, part)
}

func deploymentRecord(s deploy.Spec) (engine.Record, error) {
	value, err := json.Marshal(storedDeployment{Format: FormatVersion, Spec: s})
	if err != nil {
		return engine.Record{}, fmt.Errorf("encode deployment %q: %w", s.Name, err)
	}
	return engine.Record{Key: deploymentRecordKey(s.Name), Value: value, Timestamp: time.Now().UnixMilli()}, nil
}

// blobRecords cuts b into records; an empty blob is one empty part.
func blobRecords(k blobKey, b []byte, now time.Time) []engine.Record {
	count := max(1, (len(b)+PartBytes-1)/PartBytes)
	records := make([]engine.Record, count)
	for i := range records {
		part := b[i*PartBytes : min(len(b), (i+1)*PartBytes)]
		value := make([]byte, partHeaderBytes, partHeaderBytes+len(part))
		value[0] = FormatVersion
		binary.BigEndian.PutUint32(value[4:], uint32(count))
		records[i] = engine.Record{Key: partRecordKey(k, i), Value: append(value, part...), Timestamp: now.UnixMilli()}
	}
	return records
}

// replay applies one record of the topic. What it cannot read is marked on
// the entry the key names; a key it does not know belongs to a newer version
// and is left alone.
func (c *Catalog) replay(r engine.Record) {
	kind, rest, _ := strings.Cut(string(r.Key), "/")
	switch {
	case kind == deploymentKind && rest != "":
		c.replayDeployment(rest, r)
	case kind == string(Module), kind == string(Asset):
		c.replayPart(Kind(kind), rest, r)
	}
}

func (c *Catalog) replayDeployment(name string, r engine.Record) {
	if r.Value == nil {
		delete(c.deployments, name)
		return
	}
	var stored storedDeployment
	d := Deployment{Spec: deploy.Spec{Name: name}}
	if err := json.Unmarshal(r.Value, &stored); err != nil {
		d.Err = fmt.Errorf("%w: deployment %q at offset %d of %s: %w", ErrFormat, name, r.Offset, c.topic, err)
	} else if stored.Format != FormatVersion {
		d.Err = fmt.Errorf("%w: deployment %q at offset %d of %s has format %d, this version reads format %d: start a newer version",
			ErrFormat, name, r.Offset, c.topic, stored.Format, FormatVersion)
	} else if stored.Spec.Name != name {
		d.Err = fmt.Errorf("%w: deployment %q at offset %d of %s holds the deployment %q", ErrFormat, name, r.Offset, c.topic, stored.Spec.Name)
	} else {
		d.Spec = stored.Spec
	}
	c.deployments[name] = d
}

func (c *Catalog) replayPart(kind Kind, rest string, r engine.Record) {
	digestText, partText, _ := strings.Cut(rest, "/")
	digest, err := deploy.ParseDigest(digestText)
	if err != nil {
		return
	}
	part, err := strconv.Atoi(partText)
	if err != nil || part < 0 || part >= maxParts {
		return
	}
	key := blobKey{kind, digest}
	b := c.blobs[key]
	if b == nil {
		b = &blob{}
		c.blobs[key] = b
	}
	for len(b.parts) <= part {
		b.parts = append(b.parts, nil)
	}
	b.parts[part] = nil
	if r.Value != nil {
		b.parts[part] = append(make([]byte, 0, len(r.Value)), r.Value...)
		b.put = time.UnixMilli(r.Timestamp)
	}
}

// assemble joins the replayed parts of a blob and proves them by its digest.
func (c *Catalog) assemble(key blobKey, b *blob) {
	parts := b.parts
	b.parts = nil
	joined, present, err := joinParts(parts)
	switch {
	case present == 0: // every part has a tombstone
		delete(c.blobs, key)
		return
	case err != nil:
		b.err = fmt.Errorf("%v: %w: %w; upload it again", key, ErrDamaged, err)
	case module.DigestOf(joined) != key.digest:
		b.err = fmt.Errorf("%v: %w: its bytes have the digest %v; upload it again", key, ErrDamaged, module.DigestOf(joined))
	default:
		b.bytes = joined
		c.storedBytes += len(joined)
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
	for i := range count {
		if i >= len(parts) || parts[i] == nil {
			return nil, present, fmt.Errorf("part %d of %d is missing", i, count)
		}
		joined = append(joined, parts[i][partHeaderBytes:]...)
	}
	return joined, present, nil
}
