package main

import (
	"context"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/telemetry"
	"github.com/vedette-io/vedette/internal/tenant"
)

// ownSpans sends Vedette's own spans the way of everybody's. Writing them makes
// no further ones: the context that they are written with says that its trace is
// not sampled, and tracedSpanSink knows them when they come back.
type ownSpans struct {
	entry    *door.Entry
	exporter sdktrace.SpanProcessor
	provider *sdktrace.TracerProvider
}

// openOwnSpans hands the spans that are kept to a door as well.
func (s *server) openOwnSpans(ctx context.Context) (err error) {
	if !s.config.Tracing.Store {
		return nil
	}
	o := &ownSpans{provider: s.provider}
	if o.entry, err = s.doors.Entry("own_spans", s.config.Ingest.ScrapeLimits); err != nil {
		return err
	}
	exporter, err := otlptrace.New(ctx, o)
	if err != nil {
		return err
	}
	o.exporter = besidesTraceStore{sdktrace.NewBatchSpanProcessor(exporter)}
	s.provider.RegisterSpanProcessor(o.exporter)
	s.ownSpans = o
	return nil
}

// traceStoreScope is the scope of spans of the trace store's work.
const traceStoreScope = "vedette/trace store"

// besidesTraceStore hands on all spans but those of the trace store's work:
// flushing and merging them would make more of them.
type besidesTraceStore struct{ sdktrace.SpanProcessor }

// OnEnd implements sdktrace.SpanProcessor.
func (p besidesTraceStore) OnEnd(s sdktrace.ReadOnlySpan) {
	if s.InstrumentationScope().Name != traceStoreScope {
		p.SpanProcessor.OnEnd(s)
	}
}

// part writes what is left when its turn to stop comes.
func (o *ownSpans) part() part {
	return part{
		name: "own spans",
		run:  func(ctx context.Context) error { <-ctx.Done(); return nil },
		stop: func(ctx context.Context) error {
			err := o.exporter.ForceFlush(ctx)
			o.provider.UnregisterSpanProcessor(o.exporter)
			return err
		},
	}
}

// Start implements otlptrace.Client.
func (o *ownSpans) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (o *ownSpans) Stop(context.Context) error { return nil }

// UploadTraces implements otlptrace.Client.
func (o *ownSpans) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	payload, err := proto.Marshal(&collectortrace.ExportTraceServiceRequest{ResourceSpans: spans})
	if err != nil {
		return err
	}
	unsampled := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{15: 1}, SpanID: trace.SpanID{7: 1}})
	_, err = o.entry.Write(trace.ContextWithSpanContext(ctx, unsampled), tenant.Default, buffer.FormatOTLPTraces, payload)
	return err
}

// isOwn reports whether a batch holds spans of Vedette itself.
func isOwn(b *signal.Spans) bool {
	if len(b.Resources) == 0 {
		return false
	}
	r := &b.Resources[0]
	for _, a := range b.Attrs[r.AttrBegin:r.AttrEnd] {
		if string(b.Bytes(a.Key)) == "service.name" {
			return a.Type == signal.AttrString && string(b.Bytes(a.Range())) == telemetry.ServiceName
		}
	}
	return false
}
