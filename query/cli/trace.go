package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/vedette-io/vedette/query/traceapi"
)

// TraceFormat is how a trace is printed.
type TraceFormat string

// The formats of a trace: drawn, as the server's JSON, or as OTLP's, which any
// receiver of OTLP takes.
const (
	TraceWaterfall TraceFormat = "waterfall"
	TraceJSON      TraceFormat = "json"
	TraceOTLP      TraceFormat = "otlp"
)

// TraceOptions say how to print a trace.
type TraceOptions struct {
	Format TraceFormat
	Width  int  // of the terminal in columns; at least 40 are used
	ASCII  bool // draw with ASCII alone
	Color  bool
	// Full shows every span, and what is below spans in full; else alike siblings
	// of a large trace are folded and lines are cut at Width.
	Full   bool
	Events bool // show events and links
	Attrs  bool // show attributes
	// Location is the time zone to print in; UTC if nil.
	Location *time.Location
}

// DefaultTraceOptions fit a terminal of 80 columns without colours.
func DefaultTraceOptions() TraceOptions {
	return TraceOptions{Format: TraceWaterfall, Width: 80, Location: time.UTC}
}

// Trace is all that a server has of one trace.
type Trace struct {
	ID        string // 32 hexadecimal digits
	Spans     []Span
	Resources []Resource
	Partial   string // why it may not be whole; empty if it is

	otlp ptrace.Traces
}

// SpanID names a span within its trace; zero is none.
type SpanID [8]byte

func (id SpanID) String() string { return fmt.Sprintf("%x", id[:]) }

// Kind says which side of a call a span is, as OTLP numbers it.
type Kind uint8

// Kinds that a waterfall tells apart.
const (
	kindServer   Kind = 2
	kindClient   Kind = 3
	kindProducer Kind = 4
	kindConsumer Kind = 5
)

// label is the kind as a waterfall shows it; internal spans have none.
func (k Kind) label() string {
	switch k {
	case kindServer:
		return "server"
	case kindClient:
		return "client"
	case kindProducer:
		return "producer"
	case kindConsumer:
		return "consumer"
	}
	return ""
}

// Span is one span. Times are unix nanoseconds.
type Span struct {
	ID, Parent SpanID
	Service    string
	Name       string
	Kind       Kind
	Start, End int64
	Error      bool
	Message    string // of the status
	Resource   int    // in Trace.Resources
	Attrs      []Attribute
	Events     []Event
	Links      []Link
	Dropped    string // what the sender has left out, in words
}

// Resource is what spans were made by.
type Resource struct {
	Service string
	Attrs   []Attribute
}

// Attribute is a name and a value as text.
type Attribute struct{ Key, Value string }

// Event is something that happened at a moment of a span.
type Event struct {
	Time  int64
	Name  string
	Attrs []Attribute
}

// Link points to another span.
type Link struct {
	TraceID, SpanID string
	Attrs           []Attribute
}

// ErrTraceNotFound says that the server has no such trace.
var ErrTraceNotFound = errors.New("trace not found")

// tracePrefix is where the server has Tempo's API.
const tracePrefix = "/tempo"

// Trace asks for the trace with an id of up to 32 hexadecimal digits.
func (c *Client) Trace(ctx context.Context, id string) (*Trace, error) {
	body, err := c.traceAnswer(ctx, id, "application/protobuf")
	if err != nil {
		return nil, err
	}
	t, err := decodeTrace(body)
	if err != nil {
		return nil, fmt.Errorf("decode trace %s: %w", id, err)
	}
	return t, nil
}

// traceAnswer returns the answer to a request for a trace, in a form.
func (c *Client) traceAnswer(ctx context.Context, id, accept string) ([]byte, error) {
	parsed, err := traceapi.ParseTraceID(strings.TrimSpace(id))
	if err != nil {
		return nil, err
	}
	full := traceapi.TraceIDHex(parsed)
	body, err := c.get(ctx, tracePrefix+"/api/v2/traces/"+full, nil, accept)
	var answered *APIError
	if errors.As(err, &answered) && answered.Code == http.StatusNotFound && strings.Contains(answered.Message, "trace not found") {
		return nil, fmt.Errorf("%w: %s at %s", ErrTraceNotFound, full, c.base.Redacted())
	}
	return body, err
}

// RunTrace asks c for a trace, prints it to out and what is to be said of it to
// notes.
func RunTrace(ctx context.Context, c *Client, id string, o TraceOptions, out, notes io.Writer) error {
	if o.Format == TraceJSON {
		body, err := c.traceAnswer(ctx, id, "application/json")
		if err != nil {
			return err
		}
		return writeIndented(out, body)
	}
	t, err := c.Trace(ctx, id)
	if err != nil {
		return err
	}
	if t.Partial != "" {
		fmt.Fprintln(notes, "warning: the trace may not be whole:", clean(t.Partial))
	}
	return RenderTrace(out, t, o)
}

// RenderTrace prints t to w, in any format but that of the server.
func RenderTrace(w io.Writer, t *Trace, o TraceOptions) error {
	switch o.Format {
	case TraceWaterfall, "":
		var out bytes.Buffer
		renderWaterfall(&out, t, o)
		_, err := w.Write(out.Bytes())
		return err
	case TraceOTLP:
		body, err := (&ptrace.JSONMarshaler{}).MarshalTraces(t.otlp)
		if err != nil {
			return fmt.Errorf("print OTLP: %w", err)
		}
		return writeIndented(w, body)
	}
	return fmt.Errorf("print trace: format %q, want waterfall, json or otlp", o.Format)
}

func writeIndented(w io.Writer, body []byte) error {
	var out bytes.Buffer
	if err := json.Indent(&out, body, "", "  "); err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	out.WriteByte('\n')
	_, err := w.Write(out.Bytes())
	return err
}

// decodeTrace decodes Tempo's TraceByIDResponse: the trace, what it cost, its
// status and a message.
func decodeTrace(body []byte) (*Trace, error) {
	var spans []byte
	var partial string
	for len(body) > 0 {
		field, kind, n := protowire.ConsumeTag(body)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		body = body[n:]
		switch {
		case field == 1 && kind == protowire.BytesType:
			v, n := protowire.ConsumeBytes(body)
			if n < 0 {
				return nil, protowire.ParseError(n)
			}
			spans, body = append(spans, v...), body[n:] // parts of one message
		case field == 4 && kind == protowire.BytesType:
			v, n := protowire.ConsumeString(body)
			if n < 0 {
				return nil, protowire.ParseError(n)
			}
			partial, body = v, body[n:]
		default:
			n := protowire.ConsumeFieldValue(field, kind, body)
			if n < 0 {
				return nil, protowire.ParseError(n)
			}
			body = body[n:]
		}
	}
	td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(spans)
	if err != nil {
		return nil, err
	}
	t := newTrace(td)
	t.Partial = partial
	return t, nil
}

// newTrace returns the spans of td.
func newTrace(td ptrace.Traces) *Trace {
	t := &Trace{otlp: td, Spans: make([]Span, 0, td.SpanCount())}
	for _, rs := range td.ResourceSpans().All() {
		r := Resource{Attrs: attributes(rs.Resource().Attributes())}
		for _, a := range r.Attrs {
			if a.Key == "service.name" {
				r.Service = a.Value
				break
			}
		}
		t.Resources = append(t.Resources, r)
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				if t.ID == "" {
					id := s.TraceID()
					t.ID = fmt.Sprintf("%x", id[:])
				}
				t.Spans = append(t.Spans, newSpan(s, len(t.Resources)-1, r.Service))
			}
		}
	}
	return t
}

func newSpan(s ptrace.Span, resource int, service string) Span {
	out := Span{
		ID: SpanID(s.SpanID()), Parent: SpanID(s.ParentSpanID()), Resource: resource, Service: service, Name: s.Name(), Kind: Kind(s.Kind()),
		Start: nanos(s.StartTimestamp()), End: nanos(s.EndTimestamp()),
		Error: s.Status().Code() == ptrace.StatusCodeError, Message: s.Status().Message(),
		Attrs: attributes(s.Attributes()),
	}
	for _, e := range s.Events().All() {
		out.Events = append(out.Events, Event{Time: nanos(e.Timestamp()), Name: e.Name(), Attrs: attributes(e.Attributes())})
	}
	for _, l := range s.Links().All() {
		trace, span := l.TraceID(), l.SpanID()
		out.Links = append(out.Links, Link{TraceID: fmt.Sprintf("%x", trace[:]), SpanID: fmt.Sprintf("%x", span[:]), Attrs: attributes(l.Attributes())})
	}
	var dropped []string
	for _, d := range []struct {
		n    uint32
		what string
	}{{s.DroppedAttributesCount(), "attribute"}, {s.DroppedEventsCount(), "event"}, {s.DroppedLinksCount(), "link"}} {
		if d.n > 0 {
			dropped = append(dropped, count(int(d.n), d.what))
		}
	}
	out.Dropped = strings.Join(dropped, ", ")
	return out
}

// nanos returns a time that can be compared and subtracted.
func nanos(t pcommon.Timestamp) int64 { return int64(min(t, math.MaxInt64)) }

func attributes(m pcommon.Map) []Attribute {
	if m.Len() == 0 {
		return nil
	}
	out := make([]Attribute, 0, m.Len())
	for key, value := range m.All() {
		out = append(out, Attribute{key, value.AsString()})
	}
	return out
}
