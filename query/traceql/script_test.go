package traceql

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/vedette-io/vedette/internal/signal"
)

// TestScripts runs testdata/*.test. A script is made of blocks divided by empty
// lines; lines that begin with # are comments.
//
//	trace NAME
//	ID "service" "name" kind start duration [attribute=value …]
//	  + event "name" time [event.attribute=value …]
//	  + link trace span [link.attribute=value …]
//	  ID …
//
// loads a trace: children are indented below their parent; parent=ID, status=…,
// statusMessage="…", instrumentation:name="…" set what an attribute is not.
// Arrays are written (1, "two").
//
//	eval QUERY
//	NAME [attribute=value …]: ID …
//
// evaluates a query: a line for each spanset.
//
//	metrics start end step QUERY
//	{label=value, …} value …
//
// With REWRITE=1 the answers are written to the script.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.test")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { runScript(t, file) })
	}
}

func runScript(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	rewrite := os.Getenv("REWRITE") != ""
	var out []string
	var traces []*Trace
	for _, block := range strings.Split(strings.TrimSpace(string(data)), "\n\n") {
		lines := strings.Split(block, "\n")
		comments := 0
		for comments < len(lines) && strings.HasPrefix(lines[comments], "#") {
			comments++
		}
		body := lines[comments:]
		if len(body) == 0 {
			out = append(out, block)
			continue
		}
		var got []string
		command, rest, _ := strings.Cut(body[0], " ")
		switch command {
		case "clear":
			traces = nil
			got = body[1:]
		case "trace":
			traces = append(traces, loadTrace(t, rest, body[1:]))
			got = body[1:]
		case "eval":
			got = evalScript(t, traces, rest)
		case "metrics":
			got = metricsScript(t, traces, rest)
		default:
			t.Fatalf("unknown command %q", body[0])
		}
		if !rewrite {
			require.Equal(t, strings.Join(body[1:], "\n"), strings.Join(got, "\n"), body[0])
		}
		out = append(out, strings.Join(append(lines[:comments+1:comments+1], got...), "\n"))
	}
	if rewrite {
		require.NoError(t, os.WriteFile(file, []byte(strings.Join(out, "\n\n")+"\n"), 0o644))
	}
}

func evalScript(t *testing.T, traces []*Trace, query string) []string {
	q, err := Parse(query)
	require.NoError(t, err)
	e := NewEvaluator(q.Pipeline)
	var got []string
	for _, tr := range traces {
		for _, set := range e.Eval(tr) {
			line := traceName(tr)
			for _, kv := range set.Attrs {
				line += " " + kv.Key + "=" + kv.Value.String()
			}
			line += ":"
			for _, row := range set.Rows {
				line += " " + spanName(tr.Spans.SpanIDs[row])
			}
			got = append(got, line)
		}
	}
	return got
}

func metricsScript(t *testing.T, traces []*Trace, rest string) []string {
	f := strings.SplitN(rest, " ", 4)
	start, end, step := scriptDuration(t, f[0]), scriptDuration(t, f[1]), scriptDuration(t, f[2])
	q, err := Parse(f[3])
	require.NoError(t, err)
	r, err := NewRange(start, end, step)
	require.NoError(t, err)
	exemplars, _ := q.Exemplars(10)
	e, err := NewMetricsEvaluator(q, r, Limits{Exemplars: exemplars})
	require.NoError(t, err)
	for _, tr := range traces {
		e.Add(tr)
	}
	res := e.Result()
	require.Len(t, res.Times, r.Len())
	var got []string
	for _, s := range res.Series {
		var labels []string
		for _, l := range s.Labels {
			labels = append(labels, l.Key+"="+l.Value.String())
		}
		line := "{" + strings.Join(labels, ", ") + "}"
		for _, v := range s.Values {
			if math.IsNaN(v) {
				line += " _"
			} else {
				line += " " + strconv.FormatFloat(v, 'g', 6, 64)
			}
		}
		for _, x := range s.Exemplars {
			line += fmt.Sprintf(" @%s:%.4g", spanName(x.SpanID), x.Value)
		}
		got = append(got, line)
	}
	return got
}

func scriptDuration(t *testing.T, text string) int64 {
	p, err := newParser(text)
	require.NoError(t, err)
	v, err := p.constant("a duration")
	require.NoError(t, err)
	return v.Num
}

func traceName(t *Trace) string { return strings.TrimRight(string(t.Spans.TraceIDs[0][:]), "\x00") }

func spanName(id signal.SpanID) string { return strings.TrimRight(string(id[:]), "\x00") }

// traceBuilder makes a signal.Spans of a script's lines.
type traceBuilder struct {
	t *testing.T
	s *signal.Spans
	p *parser
}

func loadTrace(t *testing.T, name string, lines []string) *Trace {
	b := &traceBuilder{t: t, s: &signal.Spans{}}
	type ancestor struct {
		indent int
		id     signal.SpanID
	}
	var path []ancestor
	for _, line := range lines {
		text := strings.TrimLeft(line, " ")
		indent := len(line) - len(text)
		var err error
		b.p, err = newParser(strings.TrimPrefix(text, "+ "))
		require.NoError(t, err, line)
		if strings.HasPrefix(text, "+ ") {
			b.child()
			continue
		}
		for len(path) > 0 && path[len(path)-1].indent >= indent {
			path = path[:len(path)-1]
		}
		var parent signal.SpanID
		if len(path) > 0 {
			parent = path[len(path)-1].id
		}
		path = append(path, ancestor{indent, b.span(name, parent)})
	}
	tr := &Trace{}
	tr.Reset(b.s)
	return tr
}

func (b *traceBuilder) next() token {
	tok := b.p.tok
	require.NoError(b.t, b.p.advance())
	return tok
}

func (b *traceBuilder) bytes(v []byte) signal.ByteRange {
	b.s.Buf = append(b.s.Buf, v...)
	return signal.ByteRange{Off: uint32(len(b.s.Buf) - len(v)), Len: uint32(len(v))}
}

func (b *traceBuilder) span(trace string, parent signal.SpanID) signal.SpanID {
	s := b.s
	var traceID signal.TraceID
	var id signal.SpanID
	copy(traceID[:], trace)
	copy(id[:], b.next().text)
	service := b.next().value
	s.TraceIDs, s.SpanIDs, s.Parents = append(s.TraceIDs, traceID), append(s.SpanIDs, id), append(s.Parents, parent)
	s.Names = append(s.Names, b.bytes([]byte(b.next().value.Text)))
	kind, _ := constantWord(b.next().text)
	require.Equal(b.t, TypeKind, kind.Type)
	s.Kinds = append(s.Kinds, uint8(kind.Num))
	start := b.next().value.Num
	s.Starts, s.Ends = append(s.Starts, start), append(s.Ends, start+b.next().value.Num)
	row := s.Len() - 1
	s.Scope = append(s.Scope, uint32(row))
	s.Resources = append(s.Resources, signal.Resource{})
	s.Scopes = append(s.Scopes, signal.Scope{Resource: uint32(row)})
	s.Statuses, s.Messages = append(s.Statuses, 0), append(s.Messages, signal.ByteRange{})
	n := uint32(len(s.Events))
	s.EventBegin, s.EventEnd = append(s.EventBegin, n), append(s.EventEnd, n)
	n = uint32(len(s.Links))
	s.LinkBegin, s.LinkEnd = append(s.LinkBegin, n), append(s.LinkEnd, n)

	attrs := b.attrs(row)
	if service.Text != "" {
		attrs[ScopeResource] = append(attrs[ScopeResource], signal.Attr{
			Key: b.bytes([]byte("service.name")), Type: signal.AttrString, Num: signal.PackRange(b.bytes([]byte(service.Text))),
		})
	}
	add := func(list []signal.Attr) (begin, end uint32) {
		begin = uint32(len(s.Attrs))
		s.Attrs = append(s.Attrs, list...)
		return begin, uint32(len(s.Attrs))
	}
	begin, end := add(attrs[ScopeSpan])
	s.AttrBegin, s.AttrEnd = append(s.AttrBegin, begin), append(s.AttrEnd, end)
	s.Resources[row].AttrBegin, s.Resources[row].AttrEnd = add(attrs[ScopeResource])
	s.Scopes[row].AttrBegin, s.Scopes[row].AttrEnd = add(attrs[ScopeInstrumentation])
	return id
}

// attrs reads attribute=value until the line ends.
func (b *traceBuilder) attrs(row int) map[Scope][]signal.Attr {
	attrs := map[Scope][]signal.Attr{}
	for b.p.tok.kind != tokEnd {
		f, err := b.p.field()
		require.NoError(b.t, err)
		require.Equal(b.t, OpEqual, b.next().op)
		if f.Intrinsic == IntrinsicParentID {
			b.s.Parents[row] = signal.SpanID{}
			copy(b.s.Parents[row][:], b.next().text)
			continue
		}
		if f.Intrinsic == IntrinsicNone {
			a := b.attrValue()
			a.Key = b.bytes([]byte(f.Name))
			attrs[f.Scope] = append(attrs[f.Scope], a)
			continue
		}
		v, err := b.p.constant("a value")
		require.NoError(b.t, err)
		switch f.Intrinsic {
		case IntrinsicStatus:
			b.s.Statuses[row] = uint8(v.Num)
		case IntrinsicStatusMessage:
			b.s.Messages[row] = b.bytes([]byte(v.Text))
		case IntrinsicInstrumentationName:
			b.s.Scopes[row].Name = b.bytes([]byte(v.Text))
		case IntrinsicInstrumentationVersion:
			b.s.Scopes[row].Version = b.bytes([]byte(v.Text))
		default:
			b.t.Fatalf("intrinsic %s is not set by scripts", f)
		}
	}
	return attrs
}

func (b *traceBuilder) attrValue() signal.Attr {
	if !b.p.isPunct("(") {
		v, err := b.p.constant("a value")
		require.NoError(b.t, err)
		return b.attrOf(v)
	}
	var array []byte
	for b.next(); !b.p.isPunct(")"); {
		v, err := b.p.constant("an element")
		require.NoError(b.t, err)
		array = protowire.AppendBytes(protowire.AppendTag(array, 1, protowire.BytesType), anyOf(v))
		if b.p.isPunct(",") {
			b.next()
		}
	}
	b.next()
	return signal.Attr{Type: signal.AttrArray, Num: signal.PackRange(b.bytes(array))}
}

// anyOf encodes an AnyValue.
func anyOf(v Static) []byte {
	switch v.Type {
	case TypeString:
		return protowire.AppendString(protowire.AppendTag(nil, anyString, protowire.BytesType), v.Text)
	case TypeBool:
		return protowire.AppendVarint(protowire.AppendTag(nil, anyBool, protowire.VarintType), uint64(v.Num))
	case TypeInt:
		return protowire.AppendVarint(protowire.AppendTag(nil, anyInt, protowire.VarintType), uint64(v.Num))
	case TypeFloat:
		return protowire.AppendFixed64(protowire.AppendTag(nil, anyDouble, protowire.Fixed64Type), math.Float64bits(v.F))
	}
	return nil
}

func (b *traceBuilder) attrOf(v Static) signal.Attr {
	switch v.Type {
	case TypeString:
		return signal.Attr{Type: signal.AttrString, Num: signal.PackRange(b.bytes([]byte(v.Text)))}
	case TypeBool:
		return signal.Attr{Type: signal.AttrBool, Num: uint64(v.Num)}
	case TypeInt:
		return signal.Attr{Type: signal.AttrInt, Num: uint64(v.Num)}
	case TypeFloat:
		return signal.Attr{Type: signal.AttrDouble, Num: math.Float64bits(v.F)}
	}
	return signal.Attr{Type: signal.AttrEmpty}
}

// child adds an event or link to the last span.
func (b *traceBuilder) child() {
	s := b.s
	row := s.Len() - 1
	switch what := b.next().text; what {
	case "event":
		e := signal.Event{Name: b.bytes([]byte(b.next().value.Text)), Time: b.next().value.Num}
		e.AttrBegin = uint32(len(s.Attrs))
		s.Attrs = append(s.Attrs, b.attrs(row)[ScopeEvent]...)
		e.AttrEnd = uint32(len(s.Attrs))
		s.Events = append(s.Events, e)
		s.EventEnd[row]++
	case "link":
		var l signal.Link
		copy(l.TraceID[:], b.next().text)
		copy(l.SpanID[:], b.next().text)
		l.AttrBegin = uint32(len(s.Attrs))
		s.Attrs = append(s.Attrs, b.attrs(row)[ScopeLink]...)
		l.AttrEnd = uint32(len(s.Attrs))
		s.Links = append(s.Links, l)
		s.LinkEnd[row]++
	default:
		b.t.Fatalf("unknown child %q", cmp.Or(what, "the end"))
	}
}
