package main

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/vedette-io/vedette/ingest"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/signal"
)

// The wrappers below put Vedette's own spans around the calls between packages,
// so that the packages need not know about tracing.

// endSpan ends a span and notes err.
func endSpan(span trace.Span, err error) {
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// tracedBuffer has a span for every append.
type tracedBuffer struct {
	buffer.Buffer
	tracer trace.Tracer
}

// Append implements buffer.Buffer.
func (b tracedBuffer) Append(ctx context.Context, topic string, partition int, records []buffer.Record) (int64, error) {
	ctx, span := b.tracer.Start(ctx, "buffer append", trace.WithSpanKind(trace.SpanKindProducer))
	offset, err := b.Buffer.Append(ctx, topic, partition, records)
	if span.IsRecording() {
		size := 0
		for _, r := range records {
			size += len(r.Payload)
		}
		span.SetAttributes(attribute.String("topic", topic), attribute.Int("partition", partition),
			attribute.Int64("offset", offset), attribute.Int("records", len(records)), attribute.Int("size_bytes", size))
	}
	endSpan(span, err)
	return offset, err
}

// tracedSink has a span for every batch that goes into the store.
type tracedSink struct {
	ingest.Sink
	tracer trace.Tracer
}

// AppendMetrics implements ingest.Sink.
func (s tracedSink) AppendMetrics(ctx context.Context, b *signal.Metrics, source, topic string, partition int32, offset int64) (signal.AppendResult, error) {
	ctx, span := s.tracer.Start(ctx, "store append", trace.WithSpanKind(trace.SpanKindConsumer))
	var series, samples int
	if span.IsRecording() { // the batch is not ours after the call
		series, samples = len(b.Hash), len(b.Times)
	}
	res, err := s.Sink.AppendMetrics(ctx, b, source, topic, partition, offset)
	if span.IsRecording() {
		span.SetAttributes(attribute.String("topic", topic), attribute.Int("partition", int(partition)), attribute.Int64("offset", offset),
			attribute.Int("series", series), attribute.Int("samples", samples), attribute.Int("appended", int(res.Appended)))
	}
	endSpan(span, err)
	return res, err
}

// tracedSpanSink has a span for every batch of spans that goes into the store.
type tracedSpanSink struct {
	ingest.SpanSink
	tracer trace.Tracer
}

// AppendSpans implements ingest.SpanSink.
func (s tracedSpanSink) AppendSpans(ctx context.Context, b *signal.Spans, source, topic string, partition int32, offset int64) (signal.AppendResult, error) {
	if isOwn(b) {
		return s.SpanSink.AppendSpans(ctx, b, source, topic, partition, offset)
	}
	ctx, span := s.tracer.Start(ctx, "trace store append", trace.WithSpanKind(trace.SpanKindConsumer))
	spans := b.Len()
	res, err := s.SpanSink.AppendSpans(ctx, b, source, topic, partition, offset)
	if span.IsRecording() {
		span.SetAttributes(attribute.String("topic", topic), attribute.Int("partition", int(partition)), attribute.Int64("offset", offset),
			attribute.Int("spans", spans), attribute.Int("appended", res.Appended))
	}
	endSpan(span, err)
	return res, err
}

// tracedHandler has a span for every request to h, named after route. It
// continues the trace that the client began, if it names one.
func tracedHandler(tracer trace.Tracer, route string, h http.Handler) http.Handler {
	propagator := propagation.TraceContext{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := tracer.Start(ctx, route, trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		if !span.IsRecording() {
			h.ServeHTTP(w, r.WithContext(ctx))
			return
		}
		sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(sw, r.WithContext(ctx))
		span.SetAttributes(attribute.String("http.request.method", r.Method), attribute.String("url.path", r.URL.Path),
			attribute.Int("http.response.status_code", sw.status))
		if sw.status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(sw.status))
		}
	})
}

// statusWriter remembers the status of a response.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the writer below.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush implements http.Flusher, which streamed answers ask for.
func (w *statusWriter) Flush() {
	_ = http.NewResponseController(w.ResponseWriter).Flush() // it may not be able to
}
