package exposition

import (
	"bytes"
	"math"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/value"

	"github.com/vedette-io/vedette/ingest/remotewrite"
)

// requestBytes is the size at which a request is cut, so that very many series
// stay within what a door takes.
const requestBytes = 1 << 20

// Requests gathers series into remote write requests of about a megabyte each,
// uncompressed. The zero value is empty and ready. Times are unix milliseconds.
type Requests struct {
	builder  remotewrite.Builder
	payloads [][]byte
}

// Add adds a series with its sample and exemplars; t is the time of those that
// have none of their own.
func (r *Requests) Add(s *Series, t int64) error {
	if s.Time != 0 {
		t = s.Time
	}
	b := &r.builder
	b.Begin(s.Labels)
	if s.Int != nil || s.Float != nil {
		if err := b.Histogram(s.Start, t, s.Int, s.Float); err != nil {
			return err
		}
	} else {
		b.Sample(s.Start, t, s.Value)
	}
	for i := range s.Exemplars {
		e := s.Exemplars[i]
		if !e.HasTs {
			e.Ts = t
		}
		b.Exemplar(&e)
	}
	b.End()
	r.cutLarge()
	return nil
}

// Stale ends a series at t: queries after t do not see it.
func (r *Requests) Stale(lset []byte, t int64) {
	r.builder.Begin(lset)
	r.builder.Sample(0, t, math.Float64frombits(value.StaleNaN))
	r.builder.End()
	r.cutLarge()
}

// Metadata describes a family.
func (r *Requests) Metadata(f *dto.MetricFamily) {
	r.builder.Metadata(f.GetName(), Metadata(f))
	r.cutLarge()
}

// Payloads returns the requests, of buffer.FormatRemoteWriteV1, and leaves r
// empty.
func (r *Requests) Payloads() [][]byte {
	r.cut()
	out := r.payloads
	r.payloads = nil
	return out
}

// Ready returns the requests that are full, and keeps the one at hand.
func (r *Requests) Ready() [][]byte {
	out := r.payloads
	r.payloads = nil
	return out
}

func (r *Requests) cutLarge() {
	if r.builder.Size() >= requestBytes {
		r.cut()
	}
}

func (r *Requests) cut() {
	if r.builder.Size() > 0 {
		p := r.builder.Payload(nil) // with room for bytes that do not compress
		r.payloads = append(r.payloads, bytes.Clone(p))
		r.builder.Reset()
	}
}
