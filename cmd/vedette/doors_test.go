package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/push"
	"github.com/prometheus/common/model"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

var (
	grpcLine   = regexp.MustCompile(`gRPC +([^ ]+) +OTLP metrics`)
	statsdLine = regexp.MustCompile(`udp +([^ ]+) +StatsD`)
)

// Every door of one server, with the clients that people have for it: what they
// send can be queried, and is still there after kill -9.
func TestE2EDoors(t *testing.T) {
	skipShort(t)
	data := t.TempDir()
	config := filepath.Join(t.TempDir(), "vedette.yml")
	text := `
http: {bearer_token: sesame}
scrape_configs: []
otlp: {grpc: {listen: "127.0.0.1:0"}, http: {listen: ""}}
statsd: {listen_udp: "127.0.0.1:0", flush_interval: 100ms}
`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, data, "--config", config)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	exporter, err := otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithInsecure(), otlpmetricgrpc.WithEndpoint(p.log.wait(ctx, grpcLine, p.done)[1]),
		otlpmetricgrpc.WithHeaders(map[string]string{"Authorization": "Bearer sesame"}), otlpmetricgrpc.WithCompressor("gzip"))
	if err != nil {
		t.Fatal(err)
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)))
	orders, err := provider.Meter("test").Int64Counter("e2e.orders")
	if err != nil {
		t.Fatal(err)
	}
	orders.Add(ctx, 7, metric.WithAttributes(attribute.String("kind", "book")))
	if err := provider.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}

	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "e2e_batch_rows", Help: "Rows."})
	gauge.Set(42)
	pusher := push.New(p.url, "nightly").Collector(gauge).Header(http.Header{"Authorization": {"Bearer sesame"}})
	if err := pusher.PushContext(ctx); err != nil {
		t.Fatal(err)
	}

	var lines bytes.Buffer
	z := gzip.NewWriter(&lines)
	fmt.Fprint(z, "e2e_cpu,host=a usage=3.5,idle=96i\n")
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/api/v2/write?bucket=b&org=o", &lines)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Token sesame")
	r.Header.Set("Content-Encoding", "gzip")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		t.Fatalf("line protocol: got %s, want 204", resp.Status)
	}

	udp, err := net.Dial("udp", p.log.wait(ctx, statsdLine, p.done)[1])
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	if _, err := udp.Write([]byte("e2e.clicks:3|c|#page:home\n")); err != nil {
		t.Fatal(err)
	}

	want := map[string]float64{
		`e2e_orders_total{kind="book"}`:  7,
		`e2e_batch_rows{job="nightly"}`:  42,
		`e2e_cpu_usage{host="a",db="b"}`: 3.5,
		`e2e_cpu_idle{host="a"}`:         96,
		`max_over_time(e2e_clicks[5m])`:  3,
	}
	check := func() {
		t.Helper()
		p.token = "sesame"
		for query, value := range want {
			eventually(t, query, func() bool {
				var v model.Vector
				p.query(query, &v)
				return len(v) == 1 && float64(v[0].Value) == value
			})
		}
	}
	check()
	p.kill()
	p = start(t, data, "--config", config)
	check()
	p.stop()
	if log := p.log.String(); strings.Contains(log, "level=ERROR") {
		t.Errorf("the log has errors:\n%s", log)
	}
}
