package record

import (
	"errors"
	"testing"
)

func TestMarker(t *testing.T) {
	for _, m := range []Marker{{Commit: true}, {CoordinatorEpoch: 7}, {Commit: true, CoordinatorEpoch: -1}} {
		b := AppendMarker([]byte("before"), 42, 3, m, 1000)[len("before"):]
		h, err := ParseHeader(b)
		if err != nil || CheckCRC(b) != nil {
			t.Fatal(err)
		}
		if !h.Control() || !h.Transactional() || h.ProducerID != 42 || h.ProducerEpoch != 3 || h.BaseSequence != -1 || h.Count != 1 || h.LastOffsetDelta != 0 {
			t.Errorf("header %+v", h)
		}
		if got, ok, err := ParseMarker(b); got != m || !ok || err != nil {
			t.Errorf("%+v, %v, %v; want %+v", got, ok, err, m)
		}
	}
}

func TestParseMarkerRefuses(t *testing.T) {
	control := func(key, value []byte) []byte {
		var b Builder
		b.Reset(nil, None)
		b.Append(0, key, value, nil, 0)
		b.SetControl()
		return b.Finish()
	}
	for name, c := range map[string]struct {
		batch []byte
		err   error
	}{
		"leader change":   {control([]byte{0, 0, 0, 2}, make([]byte, 6)), nil},
		"short key":       {control([]byte{0, 0}, make([]byte, 6)), ErrCorrupt},
		"short value":     {control([]byte{0, 0, 0, 1}, []byte{0, 0}), ErrCorrupt},
		"no value":        {control([]byte{0, 0, 0, 0}, nil), ErrCorrupt},
		"half a batch":    {control([]byte{0, 0, 0, 1}, make([]byte, 6))[:40], ErrTruncated},
		"nothing":         {nil, ErrTruncated},
		"of the future":   {control([]byte{0, 9, 0, 99, 1, 2}, nil), nil},
		"a key too short": {control(nil, make([]byte, 6)), ErrCorrupt},
	} {
		if m, ok, err := ParseMarker(c.batch); ok || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: %+v, %v, %v; want %v", name, m, ok, err, c.err)
		}
	}
}

func FuzzParseMarker(f *testing.F) {
	f.Add(AppendMarker(nil, 1, 2, Marker{Commit: true, CoordinatorEpoch: 3}, 4))
	f.Add(AppendMarker(nil, 1, 2, Marker{}, 4))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok, err := ParseMarker(b)
		if err != nil && ok {
			t.Errorf("%+v in spite of %v", m, err)
		}
	})
}
