package otlp

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

// Request is one OTLP request: the batch decoded from it and what was left out
// of the batch. It is meant to be reused, since it remembers the labels of the
// points it has seen, and is used by one goroutine at a time.
type Request struct {
	wire.Decoded

	set     settings
	format  buffer.Format
	limits  wire.Limits
	budget  wire.Budget
	maxTime int64
	serial  uint64      // of the decode
	seed    labels.Hash // nobody can know which bytes have the same hash

	body []byte // the message: the payload, or in own
	own  []byte // memory for uncompressed messages

	resources []envelope
	scopes    []envelope
	metrics   []metricSpan
	points    []point
	drops     []signal.ByteRange // refused exemplars inside accepted points, tags included, rising

	cache cache
	names names
	res   resource
	scope scope
	mt    metric
	pt    dataPoint
	build builder
	ex    exemplars
	seen  map[sampleKey]struct{} // target_info of this request

	parter wire.Parter
	frame  frame
}

const (
	// keepBytes is the memory beside the cache that a Request keeps when it is
	// reset.
	keepBytes = 8 << 20
)

// New returns a Request that translates as cfg says, which must be valid.
func New(cfg Config) *Request {
	return &Request{
		set: newSettings(cfg), seen: make(map[sampleKey]struct{}), seed: labels.Hash{Hi: rand.Uint64(), Lo: rand.Uint64()},
	}
}

// Decode implements wire.Decoder.
func (r *Request) Decode(format buffer.Format, payload []byte, limits wire.Limits) error {
	r.begin(format, limits)
	if err := r.budget.Charge(r.capBytes()); err != nil {
		return err
	}
	if err := r.uncompress(payload); err != nil {
		return err
	}
	if err := r.decodeBody(); err != nil {
		return err
	}
	return r.finish()
}

func (r *Request) begin(format buffer.Format, limits wire.Limits) {
	r.Reset()
	r.serial++
	r.format, r.limits = format, limits
	r.budget.Begin(limits.Reserve)
	r.maxTime = math.MaxInt64
	if limits.MaxTime != 0 {
		r.maxTime = limits.MaxTime
	}
}

// uncompress sets r.body.
func (r *Request) uncompress(payload []byte) (err error) {
	limit := wire.BodyLimit(r.limits.MaxDecodedBytes)
	switch r.format {
	case buffer.FormatOTLP:
		if len(payload) > limit {
			return &wire.SizeError{What: "body", Got: len(payload), Limit: limit}
		}
		r.body = payload
	case buffer.FormatOTLPSnappy:
		r.own, err = wire.Uncompress(&r.budget, r.own, payload, limit)
		r.body = r.own
	default:
		err = &wire.SyntaxError{Message: "request", Detail: "unknown format"}
	}
	return err
}

// finish settles what could not be settled point by point.
func (r *Request) finish() error {
	m := &r.Metrics
	if !r.pt.anyStart {
		m.Starts = m.Starts[:0]
	}
	if len(r.ex.buf) == 0 {
		return nil
	}
	// Labels of exemplars are gathered apart, so that those of series, which are
	// remembered, lie together.
	if err := r.growBuf(len(r.ex.buf)); err != nil {
		return err
	}
	shift := uint32(len(m.Buf))
	m.Buf = append(m.Buf, r.ex.buf...)
	for i := range m.Exemplars {
		m.Exemplars[i].Labels.Off += shift
	}
	return nil
}

// Result implements wire.Decoder.
func (r *Request) Result() *wire.Decoded { return &r.Decoded }

// Reset empties r for reuse. Buffers that one large request has blown up are let
// go; the labels that r remembers stay, unless there are too many.
func (r *Request) Reset() {
	if r.capBytes() > keepBytes+cacheBytes {
		*r = Request{set: r.set, seen: make(map[sampleKey]struct{}), seed: r.seed, serial: r.serial}
		return
	}
	buf := r.Metrics.Buf
	r.Metrics.Reset()
	if r.cache.full(len(buf)) {
		r.cache.clear()
	}
	r.Metrics.Buf = buf[:min(r.cache.bytes, len(buf))]
	r.Rejects = wire.Rejects{}
	r.limits = wire.Limits{}
	r.body = nil
	r.own = r.own[:0]
	r.resources, r.scopes, r.metrics = r.resources[:0], r.scopes[:0], r.metrics[:0]
	r.points, r.drops = r.points[:0], r.drops[:0]
	r.pt = dataPoint{scattered: r.pt.scattered[:0]}
	r.ex.reset()
	r.build.reset()
	if len(r.seen) > 1024 {
		r.seen = make(map[sampleKey]struct{})
	}
	clear(r.seen)
	clear(r.res.attrs[:cap(r.res.attrs)]) // what is left points into the payload
	r.res, r.mt = resource{spans: r.res.spans[:0], attrs: r.res.attrs[:0]}, metric{}
	r.budget.Begin(nil)
	r.parter.Reset()
}

// capBytes is the memory that r holds already.
func (r *Request) capBytes() int {
	m := &r.Metrics
	return cap(r.own) + 16*(cap(r.resources)+cap(r.scopes)) + 32*cap(r.metrics) + 24*cap(r.points) + 8*cap(r.drops) +
		cap(m.Buf) + 16*cap(m.Hash) + 8*(cap(m.Labels)+cap(m.Times)+cap(m.Values)+cap(m.Starts)) + 4*(cap(m.SampleEnd)+cap(m.Deltas)) +
		48*cap(m.Histograms) + 32*cap(m.Exemplars) + 64*cap(m.Metadata) +
		48*cap(r.res.attrs) + r.cache.capBytes() + r.build.capBytes() + r.ex.capBytes() + r.frame.capBytes() + r.parter.CapBytes()
}

// syntax builds the error for the bytes at offset off of the body.
func (r *Request) syntax(off int, format string, args ...any) error {
	return &wire.SyntaxError{Message: wire.MessageName(r.format), Offset: off, Detail: fmt.Sprintf(format, args...)}
}

// grow makes room for n more elements of the given size.
func grow[T any](b *wire.Budget, s []T, n, sizeBytes int) ([]T, error) {
	if cap(s)-len(s) >= n {
		return s, nil
	}
	room := max(2*cap(s), len(s)+n, 64)
	if err := b.Charge((room - cap(s)) * sizeBytes); err != nil {
		return s, err
	}
	bigger := make([]T, len(s), room)
	copy(bigger, s)
	return bigger, nil
}

// growBuf makes room for n more bytes in the batch's Buf.
func (r *Request) growBuf(n int) (err error) {
	r.Metrics.Buf, err = wire.GrowBuf(&r.budget, r.Metrics.Buf, n)
	return err
}

// room makes room for a point of some rows with a sample each.
func (r *Request) room(rows int) error {
	m := &r.Metrics
	if cap(m.Hash)-len(m.Hash) >= rows && cap(m.Labels)-len(m.Labels) >= rows && cap(m.SampleEnd)-len(m.SampleEnd) >= rows &&
		cap(m.Times)-len(m.Times) >= rows && cap(m.Values)-len(m.Values) >= rows && cap(m.Starts)-len(m.Starts) >= rows &&
		len(r.points) < cap(r.points) {
		return nil
	}
	return r.makeRoom(rows)
}

func (r *Request) makeRoom(n int) (err error) {
	m, b := &r.Metrics, &r.budget
	if m.Hash, err = grow(b, m.Hash, n, 16); err != nil {
		return err
	}
	if m.Labels, err = grow(b, m.Labels, n, 8); err != nil {
		return err
	}
	if m.SampleEnd, err = grow(b, m.SampleEnd, n, 4); err != nil {
		return err
	}
	if m.Times, err = grow(b, m.Times, n, 8); err != nil {
		return err
	}
	if m.Values, err = grow(b, m.Values, n, 8); err != nil {
		return err
	}
	if m.Starts, err = grow(b, m.Starts, n, 8); err != nil {
		return err
	}
	r.points, err = grow(b, r.points, 1, 24)
	return err
}

// addSample appends a sample to the row at hand; room has been made.
func (r *Request) addSample(t, start int64, v float64) {
	m := &r.Metrics
	m.Times = append(m.Times, t)
	m.Values = append(m.Values, v)
	m.Starts = append(m.Starts, start)
}

// endRow adds the series whose samples have been appended; room has been made.
func (r *Request) endRow(s series) {
	m := &r.Metrics
	m.Hash = append(m.Hash, s.hash)
	m.Labels = append(m.Labels, s.labels)
	m.SampleEnd = append(m.SampleEnd, uint32(len(m.Times)))
}
