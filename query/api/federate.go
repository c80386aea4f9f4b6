package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/httputil"
	"google.golang.org/protobuf/proto"
)

// federate serves the newest sample of every matching series in an exposition
// format, with its timestamp, sorted by metric name.
func (a *API) federate(w http.ResponseWriter, r *http.Request) {
	httputil.CompressionHandler{Handler: http.HandlerFunc(a.federatePlain)}.ServeHTTP(w, r)
}

func (a *API) federatePlain(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, fmt.Sprintf("error parsing form values: %v", err), http.StatusBadRequest)
		return
	}
	sets, err := a.opts.Engine.Parser().ParseMetricSelectors(r.Form["match[]"])
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	format := expfmt.NegotiateAccept(r.Header,
		expfmt.NewFormat(expfmt.TypeProtoDelim), expfmt.NewFormat(expfmt.TypeProtoText),
		expfmt.NewFormat(expfmt.TypeProtoCompact), expfmt.NewFormat(expfmt.TypeTextPlain))
	newest, err := a.newestSamples(r.Context(), sets)
	if err != nil {
		a.metrics.federationErrors.Inc()
		code, ok := errorCode(0, err)
		if !ok {
			code = http.StatusInternalServerError
		}
		http.Error(w, err.Error(), code)
		return
	}
	w.Header().Set("Content-Type", string(format))
	enc := expfmt.NewEncoder(w, format)
	families := newFamilies(newest, a.attached, canCarryNative(format))
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			a.metrics.federationErrors.Inc()
			a.opts.Logger.Error("encode federated family", "family", f.GetName(), "err", err)
			return
		}
	}
}

// newestSample is a series' newest sample; H is set for histograms.
type newestSample struct {
	labels labels.Labels
	time   int64
	value  float64
	h      *histogram.FloatHistogram
}

// newestSamples returns the newest sample within the lookback of the series of
// any of the sets, by name, but for series that have gone stale.
func (a *API) newestSamples(ctx context.Context, sets [][]*labels.Matcher) ([]newestSample, error) {
	lookback := a.opts.Engine.Config().LookbackDelta
	maxTime := time.Now().UnixMilli()
	minTime := maxTime - lookback.Milliseconds()
	q, err := a.opts.Queryable.Querier(minTime, maxTime)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	hints := &storage.SelectHints{Start: minTime, End: maxTime}
	var found []storage.SeriesSet
	for _, ms := range sets {
		found = append(found, q.Select(ctx, true, hints, ms...))
	}
	set := storage.NewMergeSeriesSet(found, 0, storage.ChainedSeriesMerge)
	buffer := storage.NewBuffer(lookback.Milliseconds())
	var it chunkenc.Iterator
	var out []newestSample
	for set.Next() {
		s := set.At()
		it = s.Iterator(it)
		buffer.Reset(it)
		if n, ok := newestOf(buffer, maxTime); ok {
			n.labels = s.Labels()
			out = append(out, n)
		}
		if err := it.Err(); err != nil {
			return nil, err
		}
	}
	a.metrics.federationWarnings.Add(float64(len(set.Warnings())))
	if err := set.Err(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(out, func(a, b newestSample) int {
		return strings.Compare(a.labels.Get(model.MetricNameLabel), b.labels.Get(model.MetricNameLabel))
	})
	return out, nil
}

// newestOf returns the sample at maxTime or else the last before. Formats know
// no staleness markers, so a series that ends in one is left out.
func newestOf(it *storage.BufferedSeriesIterator, maxTime int64) (n newestSample, ok bool) {
	switch it.Seek(maxTime) {
	case chunkenc.ValFloat:
		n.time, n.value = it.At()
	case chunkenc.ValHistogram, chunkenc.ValFloatHistogram:
		n.time, n.h = it.AtFloatHistogram(nil)
	default:
		last, found := it.PeekBack(1)
		if !found {
			return n, false
		}
		n.time = last.T()
		switch last.Type() {
		case chunkenc.ValFloat:
			n.value = last.F()
		case chunkenc.ValHistogram:
			n.h = last.H().ToFloat(nil)
		case chunkenc.ValFloatHistogram:
			n.h = last.FH()
		}
	}
	return n, !value.IsStaleNaN(n.value) && (n.h == nil || !value.IsStaleNaN(n.h.Sum))
}

// canCarryNative reports whether format has a form for native histograms.
func canCarryNative(format expfmt.Format) bool {
	switch format.FormatType() {
	case expfmt.TypeProtoDelim, expfmt.TypeProtoText, expfmt.TypeProtoCompact:
		return true
	}
	return false
}

// newFamilies groups samples, sorted by name, into families of one name and
// type. A name with samples of several types makes several families, which
// scrapers accept. Series without a name are left out, and native histograms
// unless native says that they can be carried.
func newFamilies(samples []newestSample, attached []labels.Label, native bool) []*dto.MetricFamily {
	var out []*dto.MetricFamily
	var family *dto.MetricFamily
	for _, s := range samples {
		name := s.labels.Get(model.MetricNameLabel)
		if name == "" || s.h != nil && !s.h.UsesCustomBuckets() && !native {
			continue
		}
		if typ := familyType(s.h); family == nil || family.GetName() != name || family.GetType() != typ {
			family = &dto.MetricFamily{Name: proto.String(name), Type: typ.Enum()}
			out = append(out, family)
		}
		m := &dto.Metric{Label: federatedLabels(s.labels, attached), TimestampMs: proto.Int64(s.time)}
		switch {
		case s.h == nil:
			m.Untyped = &dto.Untyped{Value: proto.Float64(s.value)}
		case s.h.UsesCustomBuckets():
			m.Histogram = classicHistogram(s.h)
		default:
			m.Histogram = nativeHistogram(s.h)
		}
		family.Metric = append(family.Metric, m)
	}
	return out
}

func familyType(h *histogram.FloatHistogram) dto.MetricType {
	switch {
	case h == nil:
		return dto.MetricType_UNTYPED
	case h.CounterResetHint == histogram.GaugeType:
		return dto.MetricType_GAUGE_HISTOGRAM
	}
	return dto.MetricType_HISTOGRAM
}

// newAttached returns the labels that federated series get if they lack them,
// sorted: the external ones, and an empty instance, which keeps the scraper from
// adding its own.
func newAttached(external map[string]string) []labels.Label {
	out := make([]labels.Label, 0, len(external)+1)
	for name, value := range external {
		out = append(out, labels.Label{Name: name, Value: value})
	}
	if _, ok := external["instance"]; !ok {
		out = append(out, labels.Label{Name: "instance"})
	}
	slices.SortFunc(out, func(a, b labels.Label) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// federatedLabels returns the series' labels and those to attach.
func federatedLabels(ls labels.Labels, attached []labels.Label) []*dto.LabelPair {
	var out []*dto.LabelPair
	add := func(l labels.Label) {
		out = append(out, &dto.LabelPair{Name: proto.String(l.Name), Value: proto.String(l.Value)})
	}
	ls.Range(func(l labels.Label) {
		if l.Name != model.MetricNameLabel && l.Value != "" {
			add(l)
		}
	})
	for _, l := range attached {
		if !ls.Has(l.Name) {
			add(l)
		}
	}
	return out
}

func spans(list []histogram.Span) []*dto.BucketSpan {
	out := make([]*dto.BucketSpan, len(list))
	for i, s := range list {
		out[i] = &dto.BucketSpan{Offset: proto.Int32(s.Offset), Length: proto.Uint32(s.Length)}
	}
	return out
}

// nativeHistogram is for histograms with exponential buckets.
func nativeHistogram(h *histogram.FloatHistogram) *dto.Histogram {
	return &dto.Histogram{
		SampleCountFloat: proto.Float64(h.Count),
		SampleSum:        proto.Float64(h.Sum),
		Schema:           proto.Int32(h.Schema),
		ZeroThreshold:    proto.Float64(h.ZeroThreshold),
		ZeroCountFloat:   proto.Float64(h.ZeroCount),
		NegativeCount:    h.NegativeBuckets,
		PositiveCount:    h.PositiveBuckets,
		NegativeSpan:     spans(h.NegativeSpans),
		PositiveSpan:     spans(h.PositiveSpans),
	}
}

// classicHistogram is for histograms with custom buckets: it makes one
// cumulative bucket of each bound. The one to infinity goes without saying.
func classicHistogram(h *histogram.FloatHistogram) *dto.Histogram {
	counts := make([]float64, len(h.CustomValues)+1)
	for it := h.PositiveBucketIterator(); it.Next(); {
		b := it.At()
		counts[b.Index] = b.Count
	}
	out := &dto.Histogram{SampleCountFloat: proto.Float64(h.Count), SampleSum: proto.Float64(h.Sum)}
	total := 0.0
	for i, bound := range h.CustomValues {
		total += counts[i]
		out.Bucket = append(out.Bucket, &dto.Bucket{
			UpperBound: proto.Float64(bound), CumulativeCountFloat: proto.Float64(total),
		})
	}
	return out
}
