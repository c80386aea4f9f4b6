package remotewrite

import (
	"math"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

// Request is one remote write request: its uncompressed body, the batch decoded
// from it, and what was left out of the batch. It is meant to be reused and is
// used by one goroutine at a time.
type Request struct {
	wire.Decoded // Metrics.Buf aliases the request; valid until Reset

	format  buffer.Format
	limits  wire.Limits
	budget  wire.Budget
	maxTime int64
	fastOK  bool // label length limits cannot strike on the fast path

	body    []byte             // uncompressed
	spans   []signal.ByteRange // message of series i, in body
	drops   []signal.ByteRange // refused fields inside accepted messages, tags included, rising
	metas   []signal.ByteRange // accepted 1.0 metadata messages
	pairs   []pair             // labels of the series at hand
	symbols []symbol           // 2.0
	refs    []uint32           // 2.0: label references of the series at hand
	exRefs  []uint32           // 2.0: label references of the exemplar at hand
	prev    layout             // 2.0: of the last series with canonical labels
	offs    []uint32           // 2.0: layout of the series at hand
	named   int                // 2.0: index of its metric name
	meta    metaRefs           // 2.0: metadata of the series at hand
	last    metaRefs           // 2.0: what the last entry of Metrics.Metadata was made of
	hist    histogramScratch
	strings map[string]string // metadata strings of earlier requests
	row     row
	before  wire.Rejects
	parter  wire.Parter
	scratch []byte // body under construction in Parts
}

// row remembers where the series at hand began, so that it can be taken back.
type row struct {
	off, end                                 int // the message in the body
	times, histograms, exemplars, drops, buf int
	samplesSeen                              bool // the message holds a sample or a histogram
	refused                                  bool // something of it is refused; before holds the counts until then
}

// pair is a label whose name and value lie in the body.
type pair struct{ name, value signal.ByteRange }

// Decode implements wire.Decoder for both versions.
func (r *Request) Decode(format buffer.Format, compressed []byte, limits wire.Limits) error {
	r.begin(format, limits)
	if err := r.budget.Charge(r.capBytes()); err != nil {
		return err
	}
	var err error
	if r.body, err = wire.Uncompress(&r.budget, r.body, compressed, limits.MaxDecodedBytes); err != nil {
		return err
	}
	return r.decodeBody()
}

func (r *Request) begin(format buffer.Format, limits wire.Limits) {
	r.Reset()
	r.format, r.limits = format, limits
	r.budget.Begin(limits.Reserve)
	r.maxTime = math.MaxInt64
	if limits.MaxTime != 0 {
		r.maxTime = limits.MaxTime
	}
	r.fastOK = (limits.MaxLabelNameBytes == 0 || limits.MaxLabelNameBytes >= 0x80) &&
		(limits.MaxLabelValueBytes == 0 || limits.MaxLabelValueBytes >= 0x80)
}

func (r *Request) decodeBody() error {
	var err error
	switch r.format {
	case buffer.FormatRemoteWriteV1:
		err = r.decodeV1()
	case buffer.FormatRemoteWriteV2:
		err = r.decodeV2()
	default:
		err = &wire.SyntaxError{Message: "request", Detail: "unknown format"}
	}
	if err != nil {
		return err
	}
	m := &r.Metrics
	if len(m.Starts) > 0 {
		r.finishStarts()
	}
	return nil
}

// finishStarts gives the start column its full length, or none if refused
// samples were the only ones with a start.
func (r *Request) finishStarts() {
	m := &r.Metrics
	for _, st := range m.Starts {
		if st != 0 {
			r.padStarts()
			return
		}
	}
	m.Starts = m.Starts[:0]
}

// Reset empties r for reuse. Buffers that one large request has blown up are
// let go.
func (r *Request) Reset() {
	const keepBytes = 8 << 20
	if r.capBytes() > keepBytes {
		*r = Request{}
		return
	}
	buf := r.Metrics.Buf
	r.Metrics.Reset()
	// A 1.0 batch's Buf begins as the body; keep the larger array of the two, and
	// never the same one twice.
	switch {
	case r.format == buffer.FormatRemoteWriteV2:
		r.Metrics.Buf = buf[:0]
	case cap(buf) > cap(r.body):
		r.body, r.Metrics.Buf = buf, nil
	default:
		r.Metrics.Buf = nil
	}
	r.body = r.body[:0]
	r.spans, r.drops, r.metas = r.spans[:0], r.drops[:0], r.metas[:0]
	r.symbols, r.refs, r.exRefs, r.pairs = r.symbols[:0], r.refs[:0], r.exRefs[:0], r.pairs[:0]
	r.prev.refs, r.prev.offs, r.offs = r.prev.refs[:0], r.prev.offs[:0], r.offs[:0]
	r.Rejects = wire.Rejects{}
	r.limits = wire.Limits{}
	r.meta, r.last = metaRefs{}, metaRefs{}
	r.budget.Begin(nil)
	r.parter.Reset()
}

// Register lets f decode remote write requests.
func Register(f *wire.Formats) {
	f.Register(func() wire.Decoder { return new(Request) }, buffer.FormatRemoteWriteV1, buffer.FormatRemoteWriteV2)
}

// Result implements wire.Decoder.
func (r *Request) Result() *wire.Decoded { return &r.Decoded }

// capBytes is the memory that r holds already.
func (r *Request) capBytes() int {
	m := &r.Metrics
	n := cap(r.body) + cap(r.scratch) + 8*(cap(r.spans)+cap(r.drops)+cap(r.metas)) +
		16*cap(r.pairs) + 12*cap(r.symbols) + 4*(cap(r.refs)+cap(r.exRefs)+cap(r.offs)+cap(r.prev.refs)+cap(r.prev.offs)) + r.hist.capBytes() +
		16*cap(m.Hash) + 8*(cap(m.Labels)+cap(m.Times)+cap(m.Values)+cap(m.Starts)) + 4*cap(m.SampleEnd) + 48*cap(m.Histograms) + 32*cap(m.Exemplars) + 64*cap(m.Metadata)
	if r.format == buffer.FormatRemoteWriteV2 || cap(m.Buf) > cap(r.body) {
		n += cap(m.Buf)
	}
	return n + r.parter.CapBytes()
}

// beginRow notes where a series begins.
func (r *Request) beginRow(off, end int) {
	m := &r.Metrics
	r.row = row{off: off, end: end, times: len(m.Times), histograms: len(m.Histograms), exemplars: len(m.Exemplars), drops: len(r.drops), buf: len(m.Buf)}
}

// endRow adds the series whose samples have been appended since beginRow.
func (r *Request) endRow(h labels.Hash, lset, span signal.ByteRange) error {
	m := &r.Metrics
	if len(m.Hash) == cap(m.Hash) || len(m.Labels) == cap(m.Labels) ||
		len(m.SampleEnd) == cap(m.SampleEnd) || len(r.spans) == cap(r.spans) {
		if err := r.growRows(); err != nil {
			return err
		}
	}
	m.Hash = append(m.Hash, h)
	m.Labels = append(m.Labels, lset)
	m.SampleEnd = append(m.SampleEnd, uint32(len(m.Times)))
	r.spans = append(r.spans, span)
	return nil
}

func (r *Request) growRows() (err error) {
	m := &r.Metrics
	if m.Hash, err = wire.Grow(&r.budget, m.Hash, 16); err != nil {
		return err
	}
	if m.Labels, err = wire.Grow(&r.budget, m.Labels, 8); err != nil {
		return err
	}
	if m.SampleEnd, err = wire.Grow(&r.budget, m.SampleEnd, 4); err != nil {
		return err
	}
	r.spans, err = wire.Grow(&r.budget, r.spans, 8)
	return err
}

// takeBack removes the series at hand from the batch.
func (r *Request) takeBack() {
	m := &r.Metrics
	m.Times, m.Values = m.Times[:r.row.times], m.Values[:r.row.times]
	if len(m.Starts) > r.row.times {
		m.Starts = m.Starts[:r.row.times]
	}
	clear(m.Histograms[r.row.histograms:])
	m.Histograms = m.Histograms[:r.row.histograms]
	m.Exemplars = m.Exemplars[:r.row.exemplars]
	m.Buf = m.Buf[:r.row.buf]
	r.drops = r.drops[:r.row.drops]
}

// startOver forgets everything about the series at hand.
func (r *Request) startOver() {
	r.takeBack()
	if r.row.refused {
		r.Rejects = r.before
	}
}

// refuseRow takes the series at hand back and counts it.
func (r *Request) refuseRow(reason wire.Reason, detail string) {
	m := &r.Metrics
	samples := len(m.Times) - r.row.times
	histograms := len(m.Histograms) - r.row.histograms
	exemplars := len(m.Exemplars) - r.row.exemplars
	r.takeBack()
	r.Rejects.Samples += samples
	r.Rejects.Histograms += histograms
	r.Rejects.Exemplars += exemplars
	r.Rejects.ByReason[reason] += max(samples+histograms+exemplars, 1)
	r.noteFirst(reason, detail)
}

// noteFirst keeps the first refusal for the answer.
func (r *Request) noteFirst(reason wire.Reason, detail string) {
	if r.Rejects.First == nil {
		r.Rejects.First = &wire.InvalidError{Reason: reason, Series: r.seriesText(), Detail: detail}
	}
}

// intern returns b as a string without allocating for those seen before.
func (r *Request) intern(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if s, ok := r.strings[string(b)]; ok {
		return s
	}
	const keep = 8192
	if r.strings == nil || len(r.strings) >= keep {
		r.strings = make(map[string]string)
	}
	s := string(b)
	r.strings[s] = s
	return s
}
