package otlptraces

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// random makes requests.
type random struct{ *rand.Rand }

func newRandom(seed uint64) *random { return &random{rand.New(rand.NewPCG(seed, 4))} }

func pick[T any](r *random, of ...T) T { return of[r.IntN(len(of))] }

func (r *random) traces() ptrace.Traces {
	td := ptrace.NewTraces()
	for range r.IntN(4) {
		rs := td.ResourceSpans().AppendEmpty()
		rs.SetSchemaUrl(pick(r, "", "https://opentelemetry.io/schemas/1.26.0"))
		rs.Resource().SetDroppedAttributesCount(r.Uint32N(2))
		r.attributes(rs.Resource().Attributes(), 6)
		for range r.IntN(4) {
			ss := rs.ScopeSpans().AppendEmpty()
			ss.SetSchemaUrl(pick(r, "", "https://example.com/schema"))
			ss.Scope().SetName(pick(r, "", "lib/http", "größe"))
			ss.Scope().SetVersion(pick(r, "", "v1.2"))
			ss.Scope().SetDroppedAttributesCount(r.Uint32N(2))
			r.attributes(ss.Scope().Attributes(), 3)
			for range r.IntN(8) {
				r.span(ss.Spans().AppendEmpty())
			}
		}
	}
	return td
}

func (r *random) span(s ptrace.Span) {
	s.SetTraceID([16]byte{1, 15: byte(r.IntN(6))})
	s.SetSpanID([8]byte{1, 2, 3, 4, 5, 6, 7, byte(r.IntN(256))})
	if r.IntN(3) > 0 {
		s.SetParentSpanID([8]byte{7: byte(r.IntN(256))})
	}
	s.SetName(pick(r, "", "GET /api", "größe", "checkout", strings.Repeat("long ", r.IntN(60))))
	s.SetKind(ptrace.SpanKind(r.IntN(7)))
	s.SetStartTimestamp(pcommon.Timestamp(nowNs - r.Uint64N(1e12)))
	s.SetEndTimestamp(s.StartTimestamp() + pcommon.Timestamp(r.Uint64N(1e9)))
	if r.IntN(10) == 0 {
		s.SetStartTimestamp(pcommon.Timestamp(pick[uint64](r, 0, nowNs*2, math.MaxUint64, 1<<63, r.Uint64())))
		s.SetEndTimestamp(pcommon.Timestamp(pick[uint64](r, 0, 1, nowNs, math.MaxUint64)))
	}
	s.TraceState().FromRaw(pick(r, "", "a=b,c=d", "vendor="+strings.Repeat("x", r.IntN(200))+",other=1"))
	s.SetFlags(pick[uint32](r, 0, 1, 0x101, r.Uint32()))
	s.Status().SetCode(ptrace.StatusCode(r.IntN(3)))
	s.Status().SetMessage(pick(r, "", "", "timeout"))
	s.SetDroppedAttributesCount(pick[uint32](r, 0, 1, math.MaxUint32))
	s.SetDroppedEventsCount(r.Uint32N(2))
	s.SetDroppedLinksCount(r.Uint32N(2))
	r.attributes(s.Attributes(), 8)
	for range r.IntN(4) {
		e := s.Events().AppendEmpty()
		e.SetName(pick(r, "", "exception", "größe"))
		e.SetTimestamp(pcommon.Timestamp(pick[uint64](r, 0, nowNs, r.Uint64())))
		e.SetDroppedAttributesCount(r.Uint32N(2))
		r.attributes(e.Attributes(), 4)
	}
	for range r.IntN(3) {
		l := s.Links().AppendEmpty()
		l.SetTraceID([16]byte{15: byte(r.IntN(3))})
		l.SetSpanID([8]byte{7: byte(r.IntN(3))})
		l.SetFlags(r.Uint32N(3))
		l.TraceState().FromRaw(pick(r, "", "k=v"))
		l.SetDroppedAttributesCount(r.Uint32N(2))
		r.attributes(l.Attributes(), 3)
	}
}

func (r *random) attributes(m pcommon.Map, n int) {
	keys := []string{"http.request.method", "a", "", "größe", "service.name", "url.path", strings.Repeat("key", 60)}
	for range r.IntN(n + 1) {
		r.value(m.PutEmpty(keys[r.IntN(len(keys))]), 0)
	}
}

func (r *random) value(v pcommon.Value, depth int) {
	switch n := r.IntN(14); {
	case n < 5 || depth > 3:
		v.SetStr(pick(r, "", "GET", "/a/b?c=d&e", "<é>", strings.Repeat("ü", r.IntN(300))))
	case n == 5:
		v.SetBool(r.IntN(2) == 0)
	case n == 6:
		v.SetInt(pick[int64](r, 0, 1, -1, math.MinInt64, r.Int64()))
	case n == 7:
		v.SetDouble(pick[float64](r, 0, -2.5, 1e-7, 1e21, math.Inf(1), math.NaN(), math.Copysign(0, -1)))
	case n == 8:
		v.SetEmptyBytes().FromRaw([]byte(strings.Repeat("\xff\x00", r.IntN(100))))
	case n == 9:
		s := v.SetEmptySlice()
		for range r.IntN(4) {
			r.value(s.AppendEmpty(), depth+1)
		}
	case n == 10:
		m := v.SetEmptyMap()
		for i := range r.IntN(4) {
			r.value(m.PutEmpty(fmt.Sprintf("k<%d", i)), depth+1)
		}
	case n == 11: // no value
	default:
		v.SetStr(pick(r, "200", "404"))
	}
}
