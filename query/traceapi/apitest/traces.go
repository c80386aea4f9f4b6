package apitest

import (
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// Time of the first span of the traces, unix nanoseconds: 2026-01-02T03:04:05Z.
const Time = 1_767_323_045_000_000_000

// Attr returns an attribute with a string, bool, int or float64.
func Attr(key string, v any) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: Value(v)}
}

// Value returns a string, bool, int, float64, []byte, list of values, or nil.
func Value(v any) *commonpb.AnyValue {
	switch v := v.(type) {
	case string:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: v}}
	case bool:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: v}}
	case int:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: int64(v)}}
	case float64:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_DoubleValue{DoubleValue: v}}
	case []byte:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_BytesValue{BytesValue: v}}
	case []any:
		list := &commonpb.ArrayValue{}
		for _, e := range v {
			list.Values = append(list.Values, Value(e))
		}
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: list}}
	case []*commonpb.KeyValue:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_KvlistValue{KvlistValue: &commonpb.KeyValueList{Values: v}}}
	}
	return &commonpb.AnyValue{}
}

// Resource returns the spans of a service.
func Resource(service string, attrs []*commonpb.KeyValue, spans ...*tracepb.Span) *tracepb.ResourceSpans {
	return &tracepb.ResourceSpans{
		Resource: &resourcepb.Resource{Attributes: append([]*commonpb.KeyValue{Attr("service.name", service)}, attrs...)},
		ScopeSpans: []*tracepb.ScopeSpans{{
			Scope: &commonpb.InstrumentationScope{Name: "lib/" + service, Version: "1.2.3"}, Spans: spans,
		}},
	}
}

// ShopTraceID is the id of Shop's trace.
const ShopTraceID = "0102030405060708090a0b0c0d0e0f10"

// Shop returns a trace of five spans and three services with everything that
// OTLP knows.
func Shop() *tracepb.TracesData {
	id := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	const ms = 1_000_000
	span := func(n, parent byte, name string, kind tracepb.Span_SpanKind, start, end uint64, attrs ...*commonpb.KeyValue) *tracepb.Span {
		s := &tracepb.Span{
			TraceId: id, SpanId: []byte{0, 0, 0, 0, 0, 0, 0, n}, Name: name, Kind: kind,
			StartTimeUnixNano: Time + start*ms, EndTimeUnixNano: Time + end*ms, Attributes: attrs, Status: &tracepb.Status{},
		}
		if parent != 0 {
			s.ParentSpanId = []byte{0, 0, 0, 0, 0, 0, 0, parent}
		}
		return s
	}
	root := span(1, 0, "GET /cart", tracepb.Span_SPAN_KIND_SERVER, 0, 100,
		Attr("http.request.method", "GET"), Attr("http.response.status_code", 200), Attr("sampled", true), Attr("ratio", 0.5),
		Attr("ids", []any{"a", 7, true}), Attr("nested", []*commonpb.KeyValue{Attr("k", "v"), Attr("n", 1.5)}),
		Attr("raw", []byte{1, 2, 255}), Attr("nothing", nil), Attr("big", 1<<53+1))
	root.TraceState, root.Flags = "vendor=1", 0x101
	root.DroppedAttributesCount, root.DroppedEventsCount, root.DroppedLinksCount = 1, 2, 3
	root.Links = []*tracepb.Span_Link{{
		TraceId: []byte{16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, SpanId: []byte{9, 9, 9, 9, 9, 9, 9, 9},
		TraceState: "l=1", Flags: 1, DroppedAttributesCount: 4, Attributes: []*commonpb.KeyValue{Attr("why", "retry")},
	}}
	call := span(2, 1, "Cart/Get", tracepb.Span_SPAN_KIND_CLIENT, 10, 90, Attr("server.address", "cart"))
	serve := span(3, 2, "Cart/Get", tracepb.Span_SPAN_KIND_SERVER, 15, 80, Attr("user.id", "u-42"))
	serve.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: "no \"cart\"\n"}
	serve.Events = []*tracepb.Span_Event{
		{TimeUnixNano: Time + 20*ms, Name: "cache miss"},
		{TimeUnixNano: Time + 70*ms, Name: "exception", DroppedAttributesCount: 5, Attributes: []*commonpb.KeyValue{
			Attr("exception.type", "NotFound"), Attr("exception.message", "no cart"),
		}},
	}
	query := span(4, 3, "SELECT carts", tracepb.Span_SPAN_KIND_CLIENT, 30, 60, Attr("db.system.name", "postgresql"), Attr("peer.service", "carts-db"))
	query.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_OK}
	work := span(5, 3, "price", tracepb.Span_SPAN_KIND_INTERNAL, 61, 62, Attr("vedette.truncated", "attribute x: 10 of 20 bytes kept"))
	front := Resource("frontend", []*commonpb.KeyValue{Attr("host.name", "h1"), Attr("k8s.pod.name", "frontend-1")}, root, call)
	front.SchemaUrl, front.ScopeSpans[0].SchemaUrl = "https://opentelemetry.io/schemas/1.38.0", "https://opentelemetry.io/schemas/1.37.0"
	front.Resource.DroppedAttributesCount = 6
	front.ScopeSpans[0].Scope.Attributes = []*commonpb.KeyValue{Attr("scope.attr", "s")}
	front.ScopeSpans[0].Scope.DroppedAttributesCount = 7
	return &tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{
		front, Resource("cart", []*commonpb.KeyValue{Attr("host.name", "h2")}, serve, query), Resource("pricing", nil, work),
	}}
}

// OldTraceID is the id of Old's trace.
const OldTraceID = "00000000000000000000000000000abc"

// Old returns a trace with an id of 64 bits whose client and server share a
// span's id, as Zipkin's do. It is an hour older than Shop's.
func Old() *tracepb.TracesData {
	id := []byte{15: 0xbc, 14: 0x0a}
	const start, ms = Time - 3600e9, 1_000_000
	shared := []byte{7: 0x0b}
	client := &tracepb.Span{
		TraceId: id, SpanId: shared, Name: "get", Kind: tracepb.Span_SPAN_KIND_CLIENT,
		StartTimeUnixNano: start, EndTimeUnixNano: start + 50*ms,
	}
	server := &tracepb.Span{
		TraceId: id, SpanId: shared, Name: "get", Kind: tracepb.Span_SPAN_KIND_SERVER,
		StartTimeUnixNano: start + 60*ms, EndTimeUnixNano: start + 80*ms, Attributes: []*commonpb.KeyValue{Attr("zipkin.shared", true)},
	}
	below := &tracepb.Span{
		TraceId: id, SpanId: []byte{7: 0x0c}, ParentSpanId: shared, Name: "work",
		StartTimeUnixNano: start + 90*ms, EndTimeUnixNano: start + 70*ms,
	}
	for _, s := range []*tracepb.Span{client, server, below} {
		s.Status = &tracepb.Status{}
	}
	return &tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{
		Resource("edge", nil, client), Resource("backend", nil, server, below),
	}}
}
