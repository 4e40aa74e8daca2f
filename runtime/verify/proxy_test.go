package verify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy is a network between clients and a broker that loses connections and
// delivers requests late. It reads the frames of the Kafka protocol and nothing
// in them but their headers; a planted bug may read and change more.
type proxy struct {
	target   atomic.Pointer[string] // where the broker listens
	weather  atomic.Pointer[weather]
	bug      bug           // may be nil
	patience time.Duration // with a broker that does not listen

	mu       sync.Mutex
	listener net.Listener
	random   *rand.Rand
	links    map[*link]bool
	closed   bool
	all      sync.WaitGroup

	stranded, muted, delayed atomic.Int64 // requests
}

// weather is what the network does to each request, by chance.
type weather struct {
	// delay holds a request, and those behind it, for up to delayMost.
	delay     float64
	delayMost time.Duration
	// strand cuts the client off and delivers its request nevertheless, later: by
	// then the client has sent others over other connections.
	strand     float64
	strandMost time.Duration
	// mute delivers a request and cuts the client off instead of answering.
	mute float64
}

var calm = &weather{}

// request is a frame on its way to the broker.
type request struct {
	key, version int16
	correlation  int32
	frame        []byte // without its size
	mute         bool
}

// bug is a fault of a broker, planted between it and its clients.
type bug interface {
	// request may change a request, or answer it in the broker's place.
	request(r *request) (answer []byte)
	// response may change the answer to a request.
	response(r *request, frame []byte) []byte
}

// link is a connection of a client and the one to the broker that belongs to it.
type link struct {
	client, broker net.Conn
	pending        chan *request
}

func (l *link) close() {
	l.client.Close()
	l.broker.Close()
}

func newProxy(t *testing.T, seed uint64, b bug) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, bug: b, patience: 5 * time.Second, random: random(seed, 1<<20), links: map[*link]bool{}}
	p.weather.Store(calm)
	p.all.Go(func() { p.accept(l) })
	t.Cleanup(func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.down()
		p.all.Wait()
	})
	return p
}

func (p *proxy) address() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.listener.Addr().String()
}

// down refuses connections and ends those that there are, as a machine does whose broker is gone.
func (p *proxy) down() {
	p.mu.Lock()
	p.listener.Close()
	p.mu.Unlock()
	p.cut(1)
}

// up ends that.
func (p *proxy) up() error {
	l, err := net.Listen("tcp", p.address())
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener = l
	p.all.Go(func() { p.accept(l) })
	return nil
}

func (p *proxy) accept(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		p.all.Go(func() { p.carry(client) })
	}
}

func (p *proxy) carry(client net.Conn) {
	target := p.target.Load()
	if target == nil {
		client.Close()
		return
	}
	broker, err := p.dial(*target)
	if err != nil {
		client.Close()
		return
	}
	l := &link{client: client, broker: broker, pending: make(chan *request, 1<<10)}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		l.close()
		return
	}
	p.links[l] = true
	p.mu.Unlock()
	p.all.Go(func() { p.answers(l) })
	p.requests(l)
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// dial connects to the broker, and has patience with one that is being restarted: a
// connection that ends as soon as it is made looks to clients as if TLS were missing.
func (p *proxy) dial(target string) (net.Conn, error) {
	deadline := time.Now().Add(p.patience)
	for {
		c, err := net.DialTimeout("tcp", target, time.Second)
		if err == nil || time.Now().After(deadline) {
			return c, err
		}
		p.mu.Lock()
		closed := p.closed
		p.mu.Unlock()
		if closed {
			return nil, net.ErrClosed
		}
		<-time.After(5 * time.Millisecond)
	}
}

// chance is true with the given probability.
func (p *proxy) chance(probability float64) bool {
	if probability <= 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.random.Float64() < probability
}

func (p *proxy) upTo(d time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return between(p.random, 0, max(d, 1))
}

// cut ends a share of the connections at once.
func (p *proxy) cut(share float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		if p.random.Float64() < share {
			l.close()
		}
	}
}

// requests carries frames to the broker until either side ends.
func (p *proxy) requests(l *link) {
	defer close(l.pending)
	stranded := false
	defer func() {
		if !stranded {
			l.close()
		}
	}()
	for {
		r, err := readRequest(l.client)
		if err != nil {
			return
		}
		w := p.weather.Load()
		if p.chance(w.delay) {
			p.delayed.Add(1)
			<-time.After(p.upTo(w.delayMost))
		}
		if w.strand > 0 && late(r.key) && p.chance(w.strand) {
			stranded = true
			p.stranded.Add(1)
			l.client.Close()
			<-time.After(p.upTo(w.strandMost))
			_ = writeFrame(l.broker, r.frame)
			l.pending <- r
			// The broker gets time to handle it, then its connection ends too.
			_ = l.broker.SetReadDeadline(time.Now().Add(2 * time.Second))
			return
		}
		if r.mute = p.chance(w.mute); r.mute {
			p.muted.Add(1)
		}
		if p.bug != nil {
			if answer := p.bug.request(r); answer != nil {
				if writeFrame(l.client, answer) != nil {
					return
				}
				continue
			}
		}
		l.pending <- r
		if writeFrame(l.broker, r.frame) != nil {
			return
		}
	}
}

// late reports whether a late delivery of a request may do harm: those that change something.
func late(key int16) bool {
	switch key {
	case keyProduce, keyAddPartitionsToTxn, keyAddOffsetsToTxn, keyEndTxn, keyTxnOffsetCommit, keyInitProducerID:
		return true
	}
	return false
}

// answers carries frames to the client until either side ends.
func (p *proxy) answers(l *link) {
	defer l.close()
	for {
		frame, err := readFrame(l.broker)
		if err != nil {
			return
		}
		r, ok := <-l.pending
		if !ok || r.mute || len(frame) < 4 || int32(binary.BigEndian.Uint32(frame)) != r.correlation {
			return
		}
		if p.bug != nil {
			frame = p.bug.response(r, frame)
		}
		if writeFrame(l.client, frame) != nil {
			return
		}
	}
}

// Keys of the requests of transactions.
const (
	keyProduce            = 0
	keyFetch              = 1
	keyInitProducerID     = 22
	keyAddPartitionsToTxn = 24
	keyAddOffsetsToTxn    = 25
	keyEndTxn             = 26
	keyTxnOffsetCommit    = 28
)

// maxFrameBytes is more than any frame of these tests.
const maxFrameBytes = 64 << 20

func readFrame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxFrameBytes {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	frame := make([]byte, n)
	_, err := io.ReadFull(r, frame)
	return frame, err
}

func readRequest(c net.Conn) (*request, error) {
	frame, err := readFrame(c)
	if err != nil {
		return nil, err
	}
	if len(frame) < 8 {
		return nil, errors.New("a request without a header")
	}
	return &request{
		key: int16(binary.BigEndian.Uint16(frame)), version: int16(binary.BigEndian.Uint16(frame[2:])),
		correlation: int32(binary.BigEndian.Uint32(frame[4:])), frame: frame,
	}, nil
}

func writeFrame(w io.Writer, frame []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(frame)), uint32(len(frame))), frame...))
	return err
}
