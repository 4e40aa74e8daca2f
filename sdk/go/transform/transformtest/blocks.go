package transformtest

import (
	"encoding/binary"
	"slices"

	"github.com/millstream-io/millstream/sdk/go/transform"
	"github.com/millstream-io/millstream/sdk/go/transform/internal/flat"
)

var le = binary.LittleEndian

func setupBlock(o *Options) []byte {
	b := make([]byte, flat.SetupHeaderBytes)
	b = append(b, o.Deployment...)
	for _, names := range [][]string{o.Inputs, o.Outputs} {
		for _, name := range names {
			b = le.AppendUint32(b, uint32(len(name)))
			b = append(b, name...)
		}
	}
	b = appendPairs(b, o.Config)
	b = appendPairs(b, o.Assets)
	const revision = 1
	for i, v := range []int{len(b), revision, len(o.Deployment), len(o.Inputs), len(o.Outputs), len(o.Config), len(o.Assets)} {
		le.PutUint32(b[4*i:], uint32(v))
	}
	return b
}

func appendPairs[V string | []byte](b []byte, pairs map[string]V) []byte {
	var names []string
	for name := range pairs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b = le.AppendUint32(b, uint32(len(name)))
		b = le.AppendUint32(b, uint32(len(pairs[name])))
		b = append(b, name...)
		b = append(b, pairs[name]...)
	}
	return b
}

func batchBlock(o *Options, records []transform.Record) []byte {
	b := make([]byte, flat.BatchHeaderBytes)
	le.PutUint32(b[0:], uint32(len(records)))
	le.PutUint32(b[4:], uint32(o.Input))
	le.PutUint32(b[8:], uint32(o.Partition))
	le.PutUint64(b[16:], uint64(o.Now.UnixMilli()))
	le.PutUint64(b[32:], 1<<63) // the watermark is not known
	for _, r := range records {
		start := len(b)
		b = append(b, make([]byte, flat.RecordHeaderBytes)...)
		b = append(b, r.Key...)
		b = append(b, r.Value...)
		for name, value := range r.Headers.All() {
			b = le.AppendUint32(b, uint32(len(name)))
			b = le.AppendUint32(b, flat.Length(value))
			b = append(b, name...)
			b = append(b, value...)
		}
		h := b[start:]
		le.PutUint32(h[0:], uint32(len(h)))
		le.PutUint32(h[4:], flat.Length(r.Key))
		le.PutUint32(h[8:], flat.Length(r.Value))
		le.PutUint32(h[12:], uint32(r.Headers.Len()))
		le.PutUint64(h[16:], uint64(r.Offset))
		le.PutUint64(h[24:], uint64(r.Timestamp))
	}
	return b
}

// decode reads the output entries of a batch. As the host does, it drops the
// outputs of rejected records and fills in event times.
func (r *Runner) decode(entries []byte, timestamps []int64) {
	for len(entries) > 0 {
		size := le.Uint32(entries)
		b := slices.Clone(entries[:size])
		entries = entries[size:]
		input := int(le.Uint32(b[8:]))
		key, at := flat.Take(b, flat.OutputHeaderBytes, le.Uint32(b[12:]))
		value, at := flat.Take(b, at, le.Uint32(b[16:]))
		if b[4] == flat.KindReject {
			r.result.Outputs = slices.DeleteFunc(r.result.Outputs, func(o Output) bool { return o.Input == r.seen+input })
			r.result.Rejects = append(r.result.Rejects, Reject{Input: r.seen + input, Reason: string(value)})
			continue
		}
		record := transform.Record{Key: key, Value: value, Timestamp: timestamps[input]}
		if b[5]&flat.FlagTimestamp != 0 {
			record.Timestamp = int64(le.Uint64(b[24:]))
		}
		for range le.Uint32(b[20:]) {
			var name, v []byte
			nameLen, valueLen := le.Uint32(b[at:]), le.Uint32(b[at+4:])
			name, at = flat.Take(b, at+flat.HeaderEntryBytes, nameLen)
			v, at = flat.Take(b, at, valueLen)
			record.Headers.Add(string(name), v)
		}
		r.result.Outputs = append(r.result.Outputs, Output{
			Name:   r.options.Outputs[le.Uint16(b[6:])],
			Input:  r.seen + input,
			Record: record,
		})
	}
}
