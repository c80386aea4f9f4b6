package apitest

import (
	"math"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/vedette-io/vedette/internal/signal"
)

// Spans returns the spans of td in columns.
func Spans(td *tracepb.TracesData) *signal.Spans {
	b := &builder{s: &signal.Spans{}}
	for _, rs := range td.GetResourceSpans() {
		b.resource(rs)
	}
	return b.s
}

type builder struct{ s *signal.Spans }

func (b *builder) text(v string) signal.ByteRange {
	r := signal.ByteRange{Off: uint32(len(b.s.Buf)), Len: uint32(len(v))}
	b.s.Buf = append(b.s.Buf, v...)
	return r
}

// attrs adds attributes and returns where they are.
func (b *builder) attrs(list []*commonpb.KeyValue) (begin, end uint32) {
	begin = uint32(len(b.s.Attrs))
	for _, kv := range list {
		b.s.Attrs = append(b.s.Attrs, b.attr(kv))
	}
	return begin, uint32(len(b.s.Attrs))
}

func (b *builder) attr(kv *commonpb.KeyValue) signal.Attr {
	a := signal.Attr{Key: b.text(kv.GetKey())}
	inBuf := func(t signal.AttrType, v []byte) {
		a.Type, a.Num = t, signal.PackRange(b.text(string(v)))
	}
	switch v := kv.GetValue().GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		inBuf(signal.AttrString, []byte(v.StringValue))
	case *commonpb.AnyValue_BoolValue:
		a.Type = signal.AttrBool
		if v.BoolValue {
			a.Num = 1
		}
	case *commonpb.AnyValue_IntValue:
		a.Type, a.Num = signal.AttrInt, uint64(v.IntValue)
	case *commonpb.AnyValue_DoubleValue:
		a.Type, a.Num = signal.AttrDouble, math.Float64bits(v.DoubleValue)
	case *commonpb.AnyValue_BytesValue:
		inBuf(signal.AttrBytes, v.BytesValue)
	case *commonpb.AnyValue_ArrayValue:
		inBuf(signal.AttrArray, marshal(v.ArrayValue))
	case *commonpb.AnyValue_KvlistValue:
		inBuf(signal.AttrMap, marshal(v.KvlistValue))
	}
	return a
}

func marshal(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err) // of a message that a test made
	}
	return b
}

func (b *builder) resource(rs *tracepb.ResourceSpans) {
	r := signal.Resource{
		DroppedAttrs: rs.GetResource().GetDroppedAttributesCount(), SchemaURL: b.text(rs.GetSchemaUrl()),
	}
	r.AttrBegin, r.AttrEnd = b.attrs(rs.GetResource().GetAttributes())
	b.s.Resources = append(b.s.Resources, r)
	for _, ss := range rs.GetScopeSpans() {
		c := signal.Scope{
			Resource: uint32(len(b.s.Resources) - 1), Name: b.text(ss.GetScope().GetName()), Version: b.text(ss.GetScope().GetVersion()),
			DroppedAttrs: ss.GetScope().GetDroppedAttributesCount(), SchemaURL: b.text(ss.GetSchemaUrl()),
		}
		c.AttrBegin, c.AttrEnd = b.attrs(ss.GetScope().GetAttributes())
		b.s.Scopes = append(b.s.Scopes, c)
		for _, span := range ss.GetSpans() {
			b.span(span)
		}
	}
}

func (b *builder) span(span *tracepb.Span) {
	s := b.s
	s.Scope = append(s.Scope, uint32(len(s.Scopes)-1))
	s.TraceIDs = append(s.TraceIDs, signal.TraceID(span.TraceId))
	s.SpanIDs = append(s.SpanIDs, signal.SpanID(span.SpanId))
	var parent signal.SpanID
	copy(parent[:], span.ParentSpanId)
	s.Parents = append(s.Parents, parent)
	s.Starts = append(s.Starts, int64(span.StartTimeUnixNano))
	s.Ends = append(s.Ends, int64(span.EndTimeUnixNano))
	s.Names = append(s.Names, b.text(span.Name))
	s.Kinds = append(s.Kinds, uint8(span.Kind))
	s.Statuses = append(s.Statuses, uint8(span.GetStatus().GetCode()))
	s.Messages = append(s.Messages, b.text(span.GetStatus().GetMessage()))
	s.States = append(s.States, b.text(span.TraceState))
	s.Flags = append(s.Flags, span.Flags)
	s.DroppedAttrs = append(s.DroppedAttrs, span.DroppedAttributesCount)
	s.DroppedEvents = append(s.DroppedEvents, span.DroppedEventsCount)
	s.DroppedLinks = append(s.DroppedLinks, span.DroppedLinksCount)
	begin, end := b.attrs(span.Attributes)
	s.AttrBegin, s.AttrEnd = append(s.AttrBegin, begin), append(s.AttrEnd, end)
	s.EventBegin = append(s.EventBegin, uint32(len(s.Events)))
	for _, e := range span.Events {
		x := signal.Event{Time: int64(e.TimeUnixNano), Name: b.text(e.Name), DroppedAttrs: e.DroppedAttributesCount}
		x.AttrBegin, x.AttrEnd = b.attrs(e.Attributes)
		s.Events = append(s.Events, x)
	}
	s.EventEnd = append(s.EventEnd, uint32(len(s.Events)))
	s.LinkBegin = append(s.LinkBegin, uint32(len(s.Links)))
	for _, l := range span.Links {
		x := signal.Link{
			TraceID: signal.TraceID(l.TraceId), SpanID: signal.SpanID(l.SpanId), State: b.text(l.TraceState), Flags: l.Flags,
			DroppedAttrs: l.DroppedAttributesCount,
		}
		x.AttrBegin, x.AttrEnd = b.attrs(l.Attributes)
		s.Links = append(s.Links, x)
	}
	s.LinkEnd = append(s.LinkEnd, uint32(len(s.Links)))
}
