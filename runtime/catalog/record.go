package catalog

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
)

// FormatVersion is the version of the records this package writes; it reads no other.
const FormatVersion = 1

// partHeaderBytes: version u8, three reserved bytes, part count u32 (big endian).
const partHeaderBytes = 8

// maxParts bounds what a damaged header can make a reader allocate.
const maxParts = (MaxBlobBytes + PartBytes - 1) / PartBytes

// storedSpec is the value of the record of a deployment, and of a version of one.
type storedSpec struct {
	Format int         `json:"format"`
	Spec   deploy.Spec `json:"spec"`
}

func deploymentRecordKey(name string) []byte { return []byte(deploymentKind + "/" + name) }

func versionRecordKey(name string, version int) []byte {
	return fmt.Appendf(nil, "%s/%s/%d", versionKind, name, version)
}

func partRecordKey(k blobKey, part int) []byte {
	return fmt.Appendf(nil, "%s/%s/%d", k.kind, k.digest, part)
}

func specRecord(key []byte, s deploy.Spec) (engine.Record, error) {
	value, err := json.Marshal(storedSpec{Format: FormatVersion, Spec: s})
	if err != nil {
		return engine.Record{}, fmt.Errorf("encode deployment %q: %w", s.Name, err)
	}
	return engine.Record{Key: key, Value: value, Timestamp: time.Now().UnixMilli()}, nil
}

// replay applies one record of the topic. What it cannot read is marked on
// the entry the key names; a key it does not know belongs to a newer version
// and is left alone. The catalog's mutex is held.
func (t *state) replay(r engine.Record) {
	kind, rest, _ := strings.Cut(string(r.Key), "/")
	switch {
	case kind == deploymentKind && rest != "":
		t.replayDeployment(rest, r)
	case kind == versionKind:
		t.replayVersion(rest, r)
	case kind == string(Module), kind == string(Asset):
		t.replayPart(Kind(kind), rest, r)
	}
}

func (t *state) replayDeployment(name string, r engine.Record) {
	if r.Value == nil {
		delete(t.deployments, name)
		return
	}
	d := Deployment{Spec: deploy.Spec{Name: name}, Offset: r.Offset}
	if s, err := t.readSpec(name, r); err != nil {
		d.Err = err
	} else {
		d.Spec = s
	}
	t.deployments[name] = d
}

func (t *state) replayVersion(rest string, r engine.Record) {
	name, text, _ := strings.Cut(rest, "/")
	version, err := strconv.Atoi(text)
	if err != nil || version < 0 {
		return
	}
	if r.Value == nil {
		delete(t.versions[name], version)
		if len(t.versions[name]) == 0 {
			delete(t.versions, name)
		}
		return
	}
	d := Deployment{Spec: deploy.Spec{Name: name, Version: version}, Offset: r.Offset}
	if s, err := t.readSpec(name, r); err != nil {
		d.Err = err
	} else if s.Version != version {
		d.Err = fmt.Errorf("%w: version %d of deployment %q at offset %d of %s holds the version %d", ErrFormat, version, name, r.Offset, t.topic, s.Version)
	} else {
		d.Spec = s
	}
	if t.versions[name] == nil {
		t.versions[name] = map[int]Deployment{}
	}
	t.versions[name][version] = d
}

// readSpec reads the value of a deployment's record.
func (t *state) readSpec(name string, r engine.Record) (deploy.Spec, error) {
	var stored storedSpec
	if err := json.Unmarshal(r.Value, &stored); err != nil {
		return deploy.Spec{}, fmt.Errorf("%w: deployment %q at offset %d of %s: %w", ErrFormat, name, r.Offset, t.topic, err)
	}
	if stored.Format != FormatVersion {
		return deploy.Spec{}, fmt.Errorf("%w: deployment %q at offset %d of %s has format %d, this version reads format %d: start a newer version",
			ErrFormat, name, r.Offset, t.topic, stored.Format, FormatVersion)
	}
	if stored.Spec.Name != name {
		return deploy.Spec{}, fmt.Errorf("%w: deployment %q at offset %d of %s holds the deployment %q", ErrFormat, name, r.Offset, t.topic, stored.Spec.Name)
	}
	return stored.Spec, nil
}

func (t *state) replayPart(kind Kind, rest string, r engine.Record) {
	digestText, partText, _ := strings.Cut(rest, "/")
	digest, err := deploy.ParseDigest(digestText)
	if err != nil {
		return
	}
	part, err := strconv.Atoi(partText)
	if err != nil || part < 0 || part >= maxParts {
		return
	}
	t.setPart(blobKey{kind, digest}, part, r.Value, time.UnixMilli(r.Timestamp))
}
