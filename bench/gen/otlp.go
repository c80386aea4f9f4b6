package gen

import (
	"bytes"
	"fmt"
	"time"

	"github.com/klauspost/compress/gzip"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
)

// Flavour is whose OTLP requests a spool holds.
type Flavour uint8

const (
	// Collector is an OpenTelemetry Collector that scrapes the targets of the
	// recording and sends several of them in one request: gauges, cumulative sums,
	// summaries and a histogram, in floats, under the names that they are exposed by.
	Collector Flavour = iota
	// SDK is one application per target that sends its own metrics, about fifty
	// data points a request: sums and gauges, some of them integers, histograms and
	// exponential histograms, under names of the semantic conventions.
	SDK
)

// source is one sender of metrics. Its part of a request is built once; each
// scrape changes values and times.
type source interface {
	// next moves on to the next scrape, taken at the given time.
	next(at pcommon.Timestamp)
}

// otlpRequest is what is sent together, scrape after scrape.
type otlpRequest struct {
	metrics pmetric.Metrics
	sources []source
	first   int // index of the first source
	points  int
}

// WriteOTLPSpool generates the whole run into a file at path, as
// ExportMetricsServiceRequests of at most about SamplesPerRequest data points.
// Scrapes from plainFrom on are not compressed, those before are as gzip.
func WriteOTLPSpool(rec *Recording, path string, f Flavour, o Options, plainFrom int) (*Spool, error) {
	if o.Targets < 1 || o.Scrapes < 1 || o.SamplesPerRequest < 1 || o.ChurnEach != 0 {
		return nil, fmt.Errorf("write OTLP spool: %d targets, %d scrapes, %d points a request, churn %d, want at least 1 of each and no churn", o.Targets, o.Scrapes, o.SamplesPerRequest, o.ChurnEach)
	}
	w, err := createSpool(rec, path, o)
	if err != nil {
		return nil, err
	}
	start := pcommon.NewTimestampFromTime(time.UnixMilli(w.spool.Times[0][0] - IntervalMillis))
	requests, err := otlpRequests(rec, f, o, start)
	if err != nil {
		return nil, fmt.Errorf("%w, %w", err, w.spool.Close())
	}
	var (
		packed bytes.Buffer
		zip    = gzip.NewWriter(&packed)
	)
	return w.finish(func(k int) error {
		for _, r := range requests {
			for i, s := range r.sources {
				s.next(pcommon.NewTimestampFromTime(time.UnixMilli(w.spool.Times[k][r.first+i])))
			}
			raw, err := pmetricotlp.NewExportRequestFromMetrics(r.metrics).MarshalProto()
			if err != nil {
				return err
			}
			entry := Request{Scrape: k, Samples: r.points, Raw: len(raw), Plain: k >= plainFrom}
			if k == 0 {
				w.spool.Created[0] += r.points
			}
			if entry.Plain {
				if err := w.write(raw, entry); err != nil {
					return err
				}
				continue
			}
			packed.Reset()
			zip.Reset(&packed)
			if _, err := zip.Write(raw); err != nil {
				return err
			}
			if err := zip.Close(); err != nil {
				return err
			}
			if err := w.write(packed.Bytes(), entry); err != nil {
				return err
			}
		}
		return nil
	})
}

// otlpRequests deals the sources out to requests.
func otlpRequests(rec *Recording, f Flavour, o Options, start pcommon.Timestamp) ([]*otlpRequest, error) {
	var all []*otlpRequest
	perSource := 0
	for i := range o.Targets {
		last := len(all) - 1
		if last < 0 || f == SDK || all[last].points+perSource > o.SamplesPerRequest {
			all = append(all, &otlpRequest{metrics: pmetric.NewMetrics(), first: i})
			last++
		}
		r := all[last]
		var s source
		if f == SDK {
			s = newApplication(r.metrics.ResourceMetrics().AppendEmpty(), i, o.Seed, start)
		} else {
			t, err := NewTarget(rec, i, o.Seed, 0)
			if err != nil {
				return nil, err
			}
			s = newScrapedTarget(rec, t, r.metrics.ResourceMetrics().AppendEmpty(), start)
		}
		r.sources = append(r.sources, s)
		r.points = r.metrics.DataPointCount()
		if i == 0 {
			perSource = r.points
		}
	}
	return all, nil
}
