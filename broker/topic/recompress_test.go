package topic

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/vfs"
)

// content is what has to stay the same whatever the codec.
func content(t *testing.T, b []byte) string {
	t.Helper()
	h, err := record.ParseHeader(b)
	if err != nil || record.CheckCRC(b) != nil {
		t.Fatal(err, record.CheckCRC(b))
	}
	out := fmt.Sprint(h.BaseOffset, h.LastOffsetDelta, h.BaseTimestamp, h.MaxTimestamp, h.ProducerID, h.ProducerEpoch, h.BaseSequence, h.Count)
	it, _, err := record.Iterate(b, nil, maxUnpackedBytes)
	if err != nil {
		t.Fatal(err)
	}
	for r := (record.Record{}); it.Next(&r); {
		out += fmt.Sprintf("\n%d %d %q %v %q %v %q", r.Offset, r.Timestamp, r.Key, r.Key == nil, r.Value, r.Value == nil, r.Headers)
	}
	if it.Err() != nil {
		t.Fatal(it.Err())
	}
	return out
}

func TestRecompression(t *testing.T) {
	now := time.Now().UnixMilli()
	batch := func(codec record.Codec) []byte {
		var b record.Builder
		b.Reset(nil, codec)
		b.SetProducer(7, 2, 0, false)
		b.Append(now+5, []byte("k"), nil, record.AppendHeader(nil, []byte("name"), []byte("value")), 1)
		b.Append(now, nil, []byte("v"), nil, 0)
		b.Append(now+9, []byte{}, make([]byte, 3000), nil, 0)
		return b.Finish()
	}
	for sent := record.None; sent <= record.Zstd; sent++ {
		for _, from := range []Origin{FromClient, FromBroker} {
			want := ""
			for _, name := range []string{"producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"} {
				codec, recompressed := codecNames()[name]
				if !recompressed {
					codec = sent
				}
				fresh := open(t, vfs.NewMem())
				p := create(t, fresh, "notes", 1, map[string]string{ConfigCompressionType: name})
				if _, err := p.Append(t.Context(), batch(sent), from); err != nil {
					t.Fatal(err)
				}
				got, err := p.Read(nil, ReadOptions{MaxBytes: 1 << 20})
				if err != nil {
					t.Fatal(err)
				}
				if h, err := record.ParseHeader(got); err != nil || h.Codec() != codec {
					t.Errorf("codec %d in a topic with %s is stored with %d, %v", sent, name, h.Codec(), err)
				}
				if c := content(t, got); want == "" {
					want = c
				} else if c != want {
					t.Errorf("codec %d in a topic with %s:\n%s\nwant\n%s", sent, name, c, want)
				}
			}
		}
	}
}

// What is within the limit as it was sent may be beyond it uncompressed, and the repeated send of a recompressed batch is known.
func TestRecompressionLimits(t *testing.T) {
	topics := open(t, vfs.NewMem())
	p := create(t, topics, "notes", 1, map[string]string{ConfigCompressionType: "uncompressed", ConfigMaxMessageBytes: "2000"})
	send := func(bytes int, sequence int32) (Appended, error) {
		var b record.Builder
		b.Reset(nil, record.Zstd)
		b.SetProducer(7, 0, sequence, false)
		b.Append(time.Now().UnixMilli(), nil, make([]byte, bytes), nil, 0)
		return p.Append(t.Context(), b.Finish(), FromClient)
	}
	if _, err := send(3000, 0); !errors.Is(err, ErrMessageTooLarge) {
		t.Errorf("3000 bytes: %v", err)
	}
	for range 2 {
		if at, err := send(1000, 0); err != nil || at.BaseOffset != 0 {
			t.Errorf("1000 bytes: %+v, %v", at, err)
		}
	}
	if end := p.Offsets().HighWatermark; end != 1 {
		t.Errorf("the log ends at %d", end)
	}
}

func TestCodecsAreConfigs(t *testing.T) {
	for _, d := range ConfigDefs() {
		if d.Name != ConfigCompressionType {
			continue
		}
		if len(d.oneOf) != len(codecNames())+1 {
			t.Errorf("%d values, %d codecs", len(d.oneOf), len(codecNames()))
		}
		for _, v := range d.oneOf {
			if _, ok := codecNames()[v]; ok == (v == "producer") {
				t.Errorf("value %q", v)
			}
		}
	}
}
