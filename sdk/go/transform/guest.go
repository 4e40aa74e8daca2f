package transform

import "github.com/millstream-io/millstream/sdk/go/transform/internal/flat"

// guest is one instance of a transform: the three calls of the ABI, without
// the memory they are made through.
type guest struct {
	handlers
	context Context
	ready   bool
}

// setup returns why the transform refuses its configuration; empty if it does not.
func (g *guest) setup(block []byte) string {
	if g.onRecord == nil {
		return "the module handles no records: it must call transform.OnRecord in an init function (main is not run)"
	}
	g.context.parse(block)
	if g.onSetup != nil {
		if err := g.onSetup(&Setup{environment: g.context.environment}); err != nil {
			if err.Error() == "" {
				return "OnSetup failed without a reason"
			}
			return err.Error()
		}
	}
	g.ready = true
	return ""
}

// process handles one batch. What it returns lies in the output area.
func (g *guest) process(block []byte) (records uint32, entries int) {
	if !g.ready {
		panic("transform: a batch before the setup")
	}
	c := &g.context
	count := flat.Load32(block, 0)
	c.input = flat.Load32(block, 4)
	c.partition = int32(flat.Load32(block, 8))
	c.now = int64(flat.Load64(block, 16))
	c.seed = flat.Load64(block, 24)
	c.used = 0
	at := flat.BatchHeaderBytes
	for i := uint32(0); i < count; i++ {
		h := flat.LoadRecordHeader(block[at:])
		b := block[at : at+int(h.Size)]
		at += int(h.Size)
		c.index, c.mark, c.failed = i, c.used, false
		c.original = h.Timestamp
		c.arena.buf = c.arena.buf[:0]
		r := Record{Timestamp: h.Timestamp, Offset: h.Offset}
		body := flat.RecordHeaderBytes
		r.Key, body = flat.Take(b, body, h.KeyLength)
		r.Value, body = flat.Take(b, body, h.ValueLength)
		r.Headers = Headers{flat: b[body:len(b):len(b)], count: int(h.HeaderCount), arena: &c.arena}
		if err := g.onRecord(c, r); err != nil || c.failed {
			c.verdict(err)
		}
	}
	return count, c.used
}
