package nezha

import (
	"fmt"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

// scopeName is the instrumentation scope of every span.
const scopeName = "nezha"

// Packer puts spans into OTLP requests.
type Packer struct {
	size int
	send func(body []byte, spans int) error

	traces ptrace.Traces
	spans  int
	pods   map[string]ptrace.SpanSlice
}

// NewPacker returns a packer that hands every request of size spans to send. The
// body is send's.
func NewPacker(size int, send func(body []byte, spans int) error) *Packer {
	return &Packer{size: size, send: send, traces: ptrace.NewTraces(), pods: map[string]ptrace.SpanSlice{}}
}

// Add adds a span.
func (p *Packer) Add(s *Span) error {
	spans, ok := p.pods[s.Pod]
	if !ok {
		rs := p.traces.ResourceSpans().AppendEmpty()
		rs.Resource().Attributes().PutStr("service.name", s.Service())
		rs.Resource().Attributes().PutStr("k8s.pod.name", s.Pod)
		ss := rs.ScopeSpans().AppendEmpty()
		ss.Scope().SetName(scopeName)
		spans = ss.Spans()
		p.pods[s.Pod] = spans
	}
	o := spans.AppendEmpty()
	o.SetTraceID(s.Trace)
	o.SetSpanID(s.ID)
	o.SetParentSpanID(s.Parent)
	o.SetName(s.Name)
	o.SetStartTimestamp(pcommon.Timestamp(s.Start))
	o.SetEndTimestamp(pcommon.Timestamp(s.End))
	if p.spans++; p.spans < p.size {
		return nil
	}
	return p.Flush()
}

// Flush sends what is left.
func (p *Packer) Flush() error {
	if p.spans == 0 {
		return nil
	}
	body, err := ptraceotlp.NewExportRequestFromTraces(p.traces).MarshalProto()
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	n := p.spans
	p.traces, p.spans, p.pods = ptrace.NewTraces(), 0, map[string]ptrace.SpanSlice{}
	return p.send(body, n)
}
