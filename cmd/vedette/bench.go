package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"

	"github.com/vedette-io/vedette/internal/config"
	"github.com/vedette-io/vedette/internal/tenant"
)

// benchCmd loads a running server. The comparison with other servers is
// make bench.
type benchCmd struct {
	URL         string        `help:"Server to send to." default:"http://127.0.0.1:9190"`
	Token       config.Secret `help:"Bearer token of that server." env:"VEDETTE_TOKEN" placeholder:"TOKEN"`
	Tenant      string        `help:"Tenant that gets the data." default:"bench"`
	Targets     int           `help:"Targets to play." default:"100"`
	Series      int           `help:"Series of each target." default:"500"`
	Connections int           `help:"Requests under way at the same time." default:"4"`
	Duration    time.Duration `help:"How long to send." default:"10s"`
}

// Help is the second half of the command's help.
func (benchCmd) Help() string {
	return `Sends remote write 1.0 requests of one scrape each, as fast as the server acknowledges them, for series named vedette_bench_total. The samples get timestamps 15 s apart that end now, so the data is shaped like that of scraped targets. They stay in the server, in a tenant of their own; do not run this against one that matters.

"make bench" in the source measures Vedette beside VictoriaMetrics and Prometheus.`
}

// benchWorker sends the requests of some of the targets.
type benchWorker struct {
	cmd       *benchCmd
	client    *http.Client
	samples   int
	latencies []time.Duration
	err       error
}

// Run sends and reports.
func (c *benchCmd) Run(ctx context.Context, s streams) error {
	if c.Targets < 1 || c.Series < 1 || c.Connections < 1 {
		return errors.New("bench: want at least one target, series and connection")
	}
	transport := &http.Transport{MaxIdleConnsPerHost: c.Connections}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: tokenTransport{c.Token, transport}}
	ctx, cancel := context.WithTimeout(ctx, c.Duration)
	defer cancel()
	begin := time.Now()
	workers := make([]benchWorker, min(c.Connections, c.Targets))
	var wg sync.WaitGroup
	for i := range workers {
		workers[i] = benchWorker{cmd: c, client: client}
		wg.Go(func() { workers[i].run(ctx, i, len(workers), begin) })
	}
	wg.Wait()
	took := time.Since(begin)

	var all []time.Duration
	var errs []error
	samples := 0
	for i := range workers {
		all = append(all, workers[i].latencies...)
		samples += workers[i].samples
		errs = append(errs, workers[i].err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if len(all) == 0 {
		return errors.New("bench: no request was answered in time")
	}
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[int(q*float64(len(all)-1))].Round(10 * time.Microsecond) }
	_, err := fmt.Fprintf(s.out, "acknowledged %d samples in %d requests in %s: %.0f samples/s; latency p50 %s, p99 %s, max %s\n",
		samples, len(all), took.Round(time.Millisecond), float64(samples)/took.Seconds(), at(0.5), at(0.99), at(1))
	return err
}

// run sends scrape after scrape of the targets first, first+step, ….
func (w *benchWorker) run(ctx context.Context, first, step int, now time.Time) {
	const interval, scrapes = 15 * time.Second, 80 // 20 minutes, within the out-of-order window
	var requests []*prompb.WriteRequest
	for target := first; target < w.cmd.Targets; target += step {
		requests = append(requests, w.cmd.request(target))
	}
	var raw, compressed []byte
	for scrape := 0; ; scrape++ {
		at := now.Add(time.Duration(scrape-scrapes) * interval)
		if at.After(now) { // the clock is caught up with: go on in small steps
			at = now.Add(time.Duration(scrape-scrapes) * time.Millisecond)
		}
		for _, req := range requests {
			for i := range req.Timeseries {
				req.Timeseries[i].Samples[0] = prompb.Sample{Timestamp: at.UnixMilli(), Value: float64(scrape * (i%7 + 1))}
			}
			raw = slices.Grow(raw[:0], req.Size())[:req.Size()]
			if _, err := req.MarshalToSizedBuffer(raw); err != nil {
				w.err = err
				return
			}
			compressed = snappy.Encode(compressed[:cap(compressed)], raw)
			begin := time.Now()
			err := w.send(ctx, compressed)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				w.err = err
				return
			}
			w.latencies = append(w.latencies, time.Since(begin))
			w.samples += len(req.Timeseries)
		}
	}
}

// request makes one target's request, whose samples are filled in later.
func (c *benchCmd) request(target int) *prompb.WriteRequest {
	req := &prompb.WriteRequest{}
	for i := range c.Series {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels: []prompb.Label{
				{Name: "__name__", Value: "vedette_bench_total"},
				{Name: "instance", Value: fmt.Sprintf("target-%05d:9100", target)},
				{Name: "job", Value: "bench"},
				{Name: "series", Value: strconv.Itoa(i)},
			},
			Samples: make([]prompb.Sample, 1),
		})
	}
	return req
}

func (w *benchWorker) send(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.cmd.URL+"/api/v1/write", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	req.Header.Set(tenant.Header, w.cmd.Tenant)
	resp, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1024))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("bench: %s: %s", resp.Status, bytes.TrimSpace(text))
	}
	return nil
}
