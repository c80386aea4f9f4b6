package main

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/buffer/kafkatest"
)

// Spans come through Kafka as they come through the embedded buffer: those of
// clients, those that somebody else wrote to the topic as the Collector does, also
// while nobody consumed; and what Vedette wrote there, others can read.
func TestE2EKafkaTraces(t *testing.T) {
	skipShort(t)
	broker := kafkatest.Start(t, kafkatest.Options{})
	data, config := t.TempDir(), filepath.Join(t.TempDir(), "vedette.yml")
	text := fmt.Sprintf(`
scrape_configs: []
otlp: {grpc: {listen: "127.0.0.1:0"}, http: {listen: "127.0.0.1:0"}}
tracing: {sample_ratio: 0}
span_metrics: {enabled: false}
consumer: {commit_interval: 100ms}
buffer:
  kind: kafka
  kafka:
    brokers: [%q]
    topics: {partitions: {vedette.traces: 3}}
    consumer: {session_timeout: 6s}
`, broker.Addr())
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()

	p := start(t, data, "--config", config)
	sent, zipkin := sentSpans{}, sentZipkin{}
	begin := time.Now().Add(-3 * time.Second)
	shop := sendGoSDK(t, p.traceAddresses(), begin, sent)
	open := httptest.NewServer(p.proxy())
	defer open.Close()
	sendZipkinGo(t, open.URL, begin, zipkin)
	p.checkSpans(sent)
	p.checkZipkin(zipkin)

	w := &kafka.Writer{Addr: kafka.TCP(broker.Addr()), Topic: buffer.TopicTraces, Compression: kafka.Gzip, BatchTimeout: time.Millisecond}
	defer w.Close()
	// foreign writes a message of two traces with two spans each.
	foreign := func(n byte) (ids []string) {
		t.Helper()
		td := ptrace.NewTraces()
		for i := range 4 {
			traceOf("collector", pcommon.TraceID{0: n, 15: 1 + byte(i%2)}, func(s ptrace.Span) {
				s.SetSpanID(pcommon.SpanID{0: n, 7: byte(i)})
			}).ResourceSpans().MoveAndAppendTo(td.ResourceSpans())
		}
		body := marshalTraces(t, td)
		if err := w.WriteMessages(ctx, kafka.Message{Value: body}); err != nil {
			t.Fatal(err)
		}
		ids = sent.add(t, body)
		slices.Sort(ids)
		return ids
	}
	ids := foreign(1)
	eventually(t, "a message of somebody else", func() bool { return slices.Equal(p.search(`{ resource.service.name = "collector" }`), ids) })
	p.checkSpans(sent)

	// A Collector's receiver takes each message as an ExportTraceServiceRequest.
	read := map[string]int{}
	for partition := range 3 {
		conn, err := kafka.DialLeader(ctx, "tcp", broker.Addr(), buffer.TopicTraces, partition)
		if err != nil {
			t.Fatal(err)
		}
		first, last, err := conn.ReadOffsets()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{broker.Addr()}, Topic: buffer.TopicTraces, Partition: partition, MaxWait: 100 * time.Millisecond})
		if err := r.SetOffset(first); err != nil {
			t.Fatal(err)
		}
		for first < last {
			m, err := r.ReadMessage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			first = m.Offset + 1
			for id, spans := range spanTexts(t, unmarshalTraces(t, m.Value)) {
				read[id] += len(spans)
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if read[shop] != 4 || read[ids[0]] != 2 || len(read) != 7 {
		t.Errorf("spans in the topic by trace: got %v, want 4 of %s, 2 of %s and those of 5 others", read, shop, ids[0])
	}

	p.kill()
	ids = append(ids, foreign(2)...)
	p = start(t, data, "--config", config)
	eventually(t, "what came meanwhile", func() bool { return slices.Equal(p.search(`{ resource.service.name = "collector" }`), ids) })
	p.checkSpans(sent)
	p.checkZipkin(zipkin)
	p.stop()
	p = start(t, data, "--config", config)
	p.checkSpans(sent)
	p.checkZipkin(zipkin)
	p.stop()
}
