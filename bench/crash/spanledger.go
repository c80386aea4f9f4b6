package crash

import (
	"encoding/binary"
	"fmt"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

// What one request of spans carries: new traces, and the late spans of those that
// the request before began.
const (
	tracesPerRequest = 20
	earlySpans       = 20
	lateSpans        = 5
	spansPerTrace    = earlySpans + lateSpans
)

// spanWriter is one writer of spans and what became of its requests.
type spanWriter struct {
	id    int
	seed  uint64
	start int64 // of its first trace, unix nanoseconds
	fates []fate
	twice []bool // the request was sent again: an older copy of it may be there
}

// traceID names a trace by the request that begins it.
func (w *spanWriter) traceID(request, trace int) (id [16]byte) {
	binary.BigEndian.PutUint64(id[:8], mix(w.seed+uint64(w.id)<<48+uint64(request)<<16+uint64(trace)))
	id[8] = 1 + byte(w.id)
	binary.BigEndian.PutUint32(id[10:], uint32(request))
	id[15] = byte(trace)
	return id
}

// spanID names a span of a trace; its last byte is the span's number, from 1 on.
func spanID(trace [16]byte, i int) (id [8]byte) {
	binary.BigEndian.PutUint64(id[:], mix(binary.BigEndian.Uint64(trace[:8])^uint64(i)))
	id[7] = byte(1 + i)
	return id
}

// mix spreads the bits of x.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

const (
	requestNanos = 20_000_000 // between the traces of two requests
	writerKey    = "crash.writer"
	requestKey   = "crash.request"
)

func (w *spanWriter) startOf(request, i int) int64 {
	return w.start + int64(request)*requestNanos + int64(i)*1001
}

func spanName(i int) string { return fmt.Sprintf("step %d", i%7) }

// request builds the body of a request.
func (w *spanWriter) request(k int) ([]byte, error) {
	traces := ptrace.NewTraces()
	rs := traces.ResourceSpans().AppendEmpty()
	rs.Resource().Attributes().PutStr("service.name", fmt.Sprintf("crash-%d", w.id))
	spans := rs.ScopeSpans().AppendEmpty().Spans()
	spans.EnsureCapacity(tracesPerRequest * spansPerTrace)
	for t := range tracesPerRequest {
		w.append(spans, k, t, 0, earlySpans)
		if k > 0 {
			w.append(spans, k-1, t, earlySpans, spansPerTrace)
		}
	}
	body, err := ptraceotlp.NewExportRequestFromTraces(traces).MarshalProto()
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	return body, nil
}

// append appends some spans of a trace.
func (w *spanWriter) append(spans ptrace.SpanSlice, request, trace, from, to int) {
	id := w.traceID(request, trace)
	for i := from; i < to; i++ {
		s := spans.AppendEmpty()
		s.SetTraceID(id)
		s.SetSpanID(spanID(id, i))
		if i > 0 {
			s.SetParentSpanID(spanID(id, (i-1)/2))
		}
		s.SetName(spanName(i))
		start := w.startOf(request, i)
		s.SetStartTimestamp(pcommon.Timestamp(start))
		s.SetEndTimestamp(pcommon.Timestamp(start + int64(i+1)*1_000_000))
		s.Attributes().PutInt(writerKey, int64(w.id))
		s.Attributes().PutInt(requestKey, int64(w.carrier(request, i)))
		s.Attributes().PutStr("crash.unique", fmt.Sprintf("%x-%d", id[:6], i))
	}
}

// carrier is the request that carries a span of a trace that request begins.
func (w *spanWriter) carrier(request, i int) int {
	if i >= earlySpans {
		return request + 1
	}
	return request
}

// spansIn is how many spans a request carries.
func spansIn(request int) int64 {
	if request == 0 {
		return tracesPerRequest * earlySpans
	}
	return tracesPerRequest * spansPerTrace
}

// compare checks a trace as it was read back against the ledger, for the spans
// that requests from the given one on carry, and returns how many of these it
// has.
func (w *spanWriter) compare(v *Verdict, got ptrace.Traces, request, trace, from int) (found int64) {
	id := w.traceID(request, trace)
	var seen [spansPerTrace]int
	for _, rs := range got.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				span := [8]byte(s.SpanID())
				i := int(span[7]) - 1
				if i < 0 || i >= spansPerTrace || span != spanID(id, i) || w.carrier(request, i) >= len(w.fates) {
					v.Foreign++
					v.note("writer %d, trace %x: span %x was never sent", w.id, id, span)
					continue
				}
				seen[i]++
				unique, _ := s.Attributes().Get("crash.unique")
				if s.Name() != spanName(i) || int64(s.StartTimestamp()) != w.startOf(request, i) || unique.Str() != fmt.Sprintf("%x-%d", id[:6], i) {
					v.Altered++
					v.note("writer %d, trace %x, span %d: is not as it was sent", w.id, id, i)
				}
			}
		}
	}
	for i, n := range seen {
		k := w.carrier(request, i)
		if k < from || k >= len(w.fates) {
			continue
		}
		acked := w.fates[k] == acknowledged
		if acked {
			v.Compared++
		}
		switch {
		case n == 0 && acked:
			v.Lost++
			v.note("writer %d, request %d, trace %x, span %d: lost", w.id, k, id, i)
		case n > 1:
			v.Doubled += int64(n - 1)
			v.note("writer %d, request %d, trace %x, span %d: there %d times", w.id, k, id, i, n)
		}
		found += int64(min(n, 1))
	}
	return found
}
