package traceql

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"unsafe"

	"github.com/vedette-io/vedette/internal/signal"
)

// value is what an expression gives for a span: nothing, one value, or several
// of an array, of events or of links. Strings may alias the trace's bytes.
type value struct {
	one     Static
	many    []Static
	several bool // many counts, even if it is empty
}

func single(s Static) value { return value{one: s} }

func (v value) isNil() bool { return !v.several && v.one.IsNil() }

// borrow returns bytes as a string without copying: it is valid as long as they
// are.
func borrow(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// fields reads values of a trace's spans.
type fields struct {
	t     *Trace
	stack []Static // behind value.many
	hex   []byte   // behind ids
}

// reset forgets the values that were read.
func (f *fields) reset(t *Trace) {
	f.t, f.stack, f.hex = t, f.stack[:0], f.hex[:0]
}

// Value returns an attribute or intrinsic of a span, as an answer shows it: a
// copy; an array or map as JSON; of several events or links the first one's.
func (t *Trace) Value(a Attribute, row int) Static {
	f := fields{t: t}
	v := f.read(a, row, true)
	if !v.several {
		v.one.Text = strings.Clone(v.one.Text)
		return v.one
	}
	if len(v.many) == 0 {
		return Static{}
	}
	v.many[0].Text = strings.Clone(v.many[0].Text)
	return v.many[0]
}

// read returns the value of a field of a span. Whole leaves arrays in one piece.
func (f *fields) read(a Attribute, row int, whole bool) value {
	if a.Parent {
		if row = f.t.Parent(row); row == noRow {
			return value{}
		}
	}
	if a.Intrinsic != IntrinsicNone {
		return f.intrinsic(a.Intrinsic, row)
	}
	return f.attribute(a.Scope, a.Name, row, whole)
}

func (f *fields) attribute(scope Scope, name string, row int, whole bool) value {
	s := f.t.Spans
	switch scope {
	case ScopeSpan:
		return f.find(s.SpanAttrs(row), name, whole)
	case ScopeResource:
		r := f.t.resource(row)
		return f.find(s.Attrs[r.AttrBegin:r.AttrEnd], name, whole)
	case ScopeInstrumentation:
		c := &s.Scopes[s.Scope[row]]
		return f.find(s.Attrs[c.AttrBegin:c.AttrEnd], name, whole)
	case ScopeEvent:
		return f.collect(int(s.EventEnd[row]-s.EventBegin[row]), func(i int) value {
			e := &s.Events[int(s.EventBegin[row])+i]
			return f.find(s.Attrs[e.AttrBegin:e.AttrEnd], name, whole)
		})
	case ScopeLink:
		return f.collect(int(s.LinkEnd[row]-s.LinkBegin[row]), func(i int) value {
			l := &s.Links[int(s.LinkBegin[row])+i]
			return f.find(s.Attrs[l.AttrBegin:l.AttrEnd], name, whole)
		})
	}
	for _, scope := range unscopedOrder {
		if v := f.attribute(scope, name, row, whole); !v.isNil() {
			return v
		}
	}
	return value{}
}

// unscopedOrder is where an attribute without scope is looked for.
var unscopedOrder = [...]Scope{ScopeSpan, ScopeResource, ScopeEvent, ScopeLink, ScopeInstrumentation}

// collect joins the values of n events or links; it is nil if none has one.
func (f *fields) collect(n int, get func(i int) value) value {
	var all value
	for i := range n {
		v := get(i)
		switch {
		case v.isNil():
			continue
		case !v.several:
			f.stack = append(f.stack, v.one)
			v.many = f.stack[len(f.stack)-1:]
		}
		all.several = true
		if all.many == nil {
			all.many = v.many[:len(v.many):len(v.many)]
		} else {
			all.many = append(all.many, v.many...)
		}
	}
	return all
}

func (f *fields) find(attrs []signal.Attr, name string, whole bool) value {
	a, ok := findAttr(f.t.Spans, attrs, name)
	if !ok {
		return value{}
	}
	if a.Type == signal.AttrArray && !whole {
		begin := len(f.stack)
		f.stack = appendElements(f.stack, f.t.Spans.Bytes(a.Range()))
		return value{many: f.stack[begin:len(f.stack):len(f.stack)], several: true}
	}
	return single(AttrStatic(f.t.Spans, a))
}

// AttrStatic returns an attribute's value: bytes as base64, an array or a map as
// JSON. Strings alias s.
func AttrStatic(s *signal.Spans, a signal.Attr) Static {
	switch a.Type {
	case signal.AttrString:
		return String(borrow(s.Bytes(a.Range())))
	case signal.AttrBool:
		return Bool(a.Bool())
	case signal.AttrInt:
		return Int(a.Int())
	case signal.AttrDouble:
		return Float(a.Double())
	case signal.AttrBytes:
		return String(base64.StdEncoding.EncodeToString(s.Bytes(a.Range())))
	case signal.AttrArray:
		return Static{Type: TypeArray, Text: string(AppendArrayJSON(nil, s.Bytes(a.Range())))}
	case signal.AttrMap:
		return Static{Type: TypeArray, Text: string(AppendMapJSON(nil, s.Bytes(a.Range())))}
	}
	return Static{}
}

func (f *fields) text(r signal.ByteRange) value { return single(String(borrow(f.t.Spans.Bytes(r)))) }

// id returns an id in hexadecimal digits.
func (f *fields) id(id []byte) value {
	begin := len(f.hex)
	f.hex = hex.AppendEncode(f.hex, id)
	return single(String(borrow(f.hex[begin:])))
}

func (f *fields) intrinsic(i Intrinsic, row int) value {
	s, t := f.t.Spans, f.t
	switch i {
	case IntrinsicName:
		return f.text(s.Names[row])
	case IntrinsicKind:
		return single(Kind(s.Kinds[row]))
	case IntrinsicStatus:
		return single(Status(s.Statuses[row]))
	case IntrinsicStatusMessage:
		return f.text(s.Messages[row])
	case IntrinsicDuration:
		return single(Duration(s.Duration(row)))
	case IntrinsicSpanID:
		return f.id(s.SpanIDs[row][:])
	case IntrinsicParentID:
		if s.Parents[row].IsZero() {
			return value{}
		}
		return f.id(s.Parents[row][:])
	case IntrinsicTraceID:
		return f.id(s.TraceIDs[row][:])
	case IntrinsicTraceDuration:
		return single(Duration(t.Duration()))
	case IntrinsicRootName:
		if t.Root == noRow {
			return value{}
		}
		return f.text(s.Names[t.Root])
	case IntrinsicRootService:
		if t.Root == noRow {
			return value{}
		}
		r := t.resource(t.Root)
		return f.find(s.Attrs[r.AttrBegin:r.AttrEnd], "service.name", true)
	case IntrinsicInstrumentationName:
		return f.text(s.Scopes[s.Scope[row]].Name)
	case IntrinsicInstrumentationVersion:
		return f.text(s.Scopes[s.Scope[row]].Version)
	}
	if i >= IntrinsicEventName {
		return f.childIntrinsic(i, row)
	}
	return f.treeIntrinsic(i, row)
}

func (f *fields) treeIntrinsic(i Intrinsic, row int) value {
	left, right, parent := f.t.NestedSet(row)
	switch i {
	case IntrinsicChildCount:
		return single(Int(int64(f.t.children[row])))
	case IntrinsicNestedSetLeft:
		return single(Int(int64(left)))
	case IntrinsicNestedSetRight:
		return single(Int(int64(right)))
	case IntrinsicNestedSetParent:
		return single(Int(int64(parent)))
	}
	return value{}
}

// childIntrinsic returns an intrinsic of events or links.
func (f *fields) childIntrinsic(i Intrinsic, row int) value {
	s := f.t.Spans
	if i == IntrinsicEventName || i == IntrinsicEventTimeSinceStart {
		return f.collect(int(s.EventEnd[row]-s.EventBegin[row]), func(n int) value {
			e := &s.Events[int(s.EventBegin[row])+n]
			if i == IntrinsicEventName {
				return f.text(e.Name)
			}
			return single(Duration(e.Time - s.Starts[row]))
		})
	}
	return f.collect(int(s.LinkEnd[row]-s.LinkBegin[row]), func(n int) value {
		l := &s.Links[int(s.LinkBegin[row])+n]
		if i == IntrinsicLinkTraceID {
			return f.id(l.TraceID[:])
		}
		return f.id(l.SpanID[:])
	})
}
