package otlp

import (
	"fmt"

	"github.com/prometheus/otlptranslator"

	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

// Field numbers of the envelopes.
const (
	fieldResourceMetrics = 1 // of ExportMetricsServiceRequest
	fieldResource        = 1 // of ResourceMetrics
	fieldScopeMetrics    = 2
	fieldOldScopeMetrics = 1000 // read if there is no scope_metrics, as the Collector does
	fieldScope           = 1    // of ScopeMetrics
	fieldMetric          = 2
	fieldScopeSchema     = 3
	fieldDataPoints      = 1 // of Gauge, Sum, …

	// fieldTargetInfo of ResourceMetrics is Vedette's own: the timestamps of the
	// target_info samples in this part of a request, unix milliseconds as packed
	// varints. Its presence says that none are to be derived.
	fieldTargetInfo = 57190
)

// envelope is a message around others, in the body. child is the field number of
// the messages in it.
type envelope struct {
	off, end uint32
	parent   uint32
	child    int32
}

// metricSpan is a Metric message and the one in it that holds the points.
type metricSpan struct {
	off, end         uint32
	dataOff, dataEnd uint32
	field            int32 // of the data
	scope            uint32
}

// point is an accepted data point, field tag included, or the target_info of a
// resource.
type point struct {
	off, end uint32
	row      uint32 // its first
	metric   uint32 // noMetric for target_info, and then off is the resource
	route    uint64 // low half of the hash of its base series
}

const noMetric = ^uint32(0)

// resource is what is known of the resource at hand.
type resource struct {
	hash     labels.Hash
	spans    []signal.ByteRange // its messages
	attrs    []attribute
	oldest   uint64 // of its accepted points, unix nanoseconds
	newest   uint64
	hasPoint bool
}

// saw notes the time of an accepted point.
func (s *resource) saw(t uint64) {
	if !s.hasPoint {
		s.oldest, s.newest, s.hasPoint = t, t, true
		return
	}
	s.oldest, s.newest = min(s.oldest, t), max(s.newest, t)
}

// scope is what is known of the scope at hand, if it is promoted.
type scope struct {
	hash   labels.Hash
	spans  []signal.ByteRange // its messages
	schema signal.ByteRange
}

type metricKind uint8

const (
	kindNone metricKind = iota
	kindGauge
	kindSum
	kindHistogram
	kindExponential
	kindSummary
)

// metric is what is known of the metric at hand.
type metric struct {
	kind                    metricKind
	name, description, unit []byte
	temporality             uint64
	delta, monotonic        bool
	points                  int

	promName string      // translated
	ctx      labels.Hash // of resource, scope and metric
}

const (
	temporalityDelta      = 1
	temporalityCumulative = 2
)

func (mt *metric) namerType() otlptranslator.MetricType {
	switch mt.kind {
	case kindGauge:
		return otlptranslator.MetricTypeGauge
	case kindSum:
		if mt.monotonic {
			return otlptranslator.MetricTypeMonotonicCounter
		}
		return otlptranslator.MetricTypeNonMonotonicCounter
	case kindHistogram:
		return otlptranslator.MetricTypeHistogram
	case kindExponential:
		return otlptranslator.MetricTypeExponentialHistogram
	case kindSummary:
		return otlptranslator.MetricTypeSummary
	}
	return otlptranslator.MetricTypeUnknown
}

// promType is Prometheus's type: it has none for deltas that are not added up.
func (mt *metric) promType(d Delta) string {
	switch {
	case mt.delta && d == DeltaNative:
		return "unknown"
	case mt.kind == kindSum && mt.monotonic:
		return "counter"
	case mt.kind == kindGauge, mt.kind == kindSum:
		return "gauge"
	case mt.kind == kindHistogram, mt.kind == kindExponential:
		return "histogram"
	case mt.kind == kindSummary:
		return "summary"
	}
	return "unknown"
}

// field reads the field at b[i:]: its number, wire type and the bounds of its
// content; end is where the next one begins. A content of varying length comes
// without its length.
func (r *Request) field(b []byte, i int, what string) (num int32, wt, s, end int, err error) {
	if uint(i) < uint(len(b)) && b[i] < 0x80 && b[i]&7 == wire.Bytes && b[i] > 7 {
		if s, end = content(b, i); s >= 0 { // nearly every field
			return int32(b[i] >> 3), wire.Bytes, s, end, nil
		}
	}
	num, wt, s = wire.Field(b, i)
	if s < 0 {
		return 0, 0, 0, 0, r.syntax(i, "%s: no valid field tag", what)
	}
	if wt == wire.Bytes {
		var e int
		if s, e = wire.Span(b, s); s < 0 {
			return 0, 0, 0, 0, r.syntax(i, "%s: field %d is cut short", what, num)
		}
		return num, wt, s, e, nil
	}
	if end = wire.Skip(b, s, wt); end < 0 {
		return 0, 0, 0, 0, r.syntax(i, "%s: field %d is cut short", what, num)
	}
	return num, wt, s, end, nil
}

// wrongType builds the error for a known field with another wire type.
func (r *Request) wrongType(i int, what string, num int32, got, want int) error {
	return r.syntax(i, "%s: field %d has wire type %d, want %d", what, num, got, want)
}

// each calls f with the bounds of every field of the given number in [i, end),
// which hold messages.
func (r *Request) each(want int32, i, end int, what string, f func(off, end int) error) error {
	b := r.body[:end]
	for i < end {
		num, wt, s, e, err := r.field(b, i, what)
		if err != nil {
			return err
		}
		if num == want {
			if wt != wire.Bytes {
				return r.wrongType(i, what, num, wt, wire.Bytes)
			}
			if err := f(s, e); err != nil {
				return err
			}
		}
		i = e
	}
	return nil
}

func (r *Request) decodeBody() error {
	return r.each(fieldResourceMetrics, 0, len(r.body), "request", r.resourceMetrics)
}

// resourceMetrics decodes a ResourceMetrics message.
func (r *Request) resourceMetrics(off, end int) error {
	const what = "resource metrics"
	r.res = resource{spans: r.res.spans[:0], attrs: r.res.attrs[:0]}
	r.scope = scope{spans: r.scope.spans[:0]}
	r.build.newResource()
	child := int32(fieldOldScopeMetrics)
	var told signal.ByteRange
	isTold := false
	b := r.body[:end]
	for i := off; i < end; {
		num, wt, s, e, err := r.field(b, i, what)
		if err != nil {
			return err
		}
		known := num == fieldResource || num == fieldScopeMetrics || num == fieldOldScopeMetrics || num == fieldTargetInfo
		if known && wt != wire.Bytes {
			return r.wrongType(i, what, num, wt, wire.Bytes)
		}
		switch num {
		case fieldResource:
			r.res.spans = append(r.res.spans, signal.RangeOf(s, e))
		case fieldScopeMetrics:
			child = fieldScopeMetrics
		case fieldTargetInfo:
			told, isTold = signal.RangeOf(s, e), true
		}
		i = e
	}
	r.res.hash = r.hashSpans(r.res.spans)
	var err error
	if r.resources, err = wire.Grow(&r.budget, r.resources, 16); err != nil {
		return err
	}
	r.resources = append(r.resources, envelope{off: uint32(off), end: uint32(end), child: child})
	if err := r.each(child, off, end, what, r.scopeMetrics); err != nil {
		return err
	}
	if isTold {
		return r.toldTargetInfo(told)
	}
	return r.derivedTargetInfo()
}

// hashSpans returns the identity of a message that may come in pieces.
func (r *Request) hashSpans(spans []signal.ByteRange) labels.Hash {
	h := labels.Hash{Hi: r.seed.Hi, Lo: r.seed.Lo + uint64(len(spans))}
	for _, s := range spans {
		h = with(h, r.at(s))
	}
	return h
}

func (r *Request) at(b signal.ByteRange) []byte { return r.body[b.Off : b.Off+b.Len] }

// scopeMetrics decodes a ScopeMetrics message.
func (r *Request) scopeMetrics(off, end int) error {
	const what = "scope metrics"
	if r.set.cfg.PromoteScopeMetadata {
		r.scope = scope{spans: r.scope.spans[:0]}
		r.build.newScope()
		b := r.body[:end]
		for i := off; i < end; {
			num, wt, s, e, err := r.field(b, i, what)
			if err != nil {
				return err
			}
			if (num == fieldScope || num == fieldScopeSchema) && wt != wire.Bytes {
				return r.wrongType(i, what, num, wt, wire.Bytes)
			}
			switch num {
			case fieldScope:
				r.scope.spans = append(r.scope.spans, signal.RangeOf(s, e))
			case fieldScopeSchema:
				r.scope.schema = signal.RangeOf(s, e)
			}
			i = e
		}
		r.scope.hash = with(r.hashSpans(r.scope.spans), r.at(r.scope.schema))
	}
	var err error
	if r.scopes, err = wire.Grow(&r.budget, r.scopes, 16); err != nil {
		return err
	}
	r.scopes = append(r.scopes, envelope{off: uint32(off), end: uint32(end), parent: uint32(len(r.resources) - 1), child: fieldMetric})
	return r.each(fieldMetric, off, end, what, r.metric)
}

// metric decodes a Metric message. What says how to read its points may stand
// behind them, so they are passed over first.
func (r *Request) metric(off, end int) error {
	data, field, err := r.metricFields(off, end)
	if err != nil {
		return err
	}
	mt := &r.mt
	if mt.kind == kindNone {
		r.refuseMetric(1, wire.ReasonUnsupportedType, "the metric has no data of a known type")
		return nil
	}
	if err := r.dataFields(int(data.Off), int(data.Off+data.Len)); err != nil {
		return err
	}
	if mt.points == 0 {
		return nil
	}
	if mt.kind == kindSum || mt.kind == kindHistogram || mt.kind == kindExponential {
		mt.delta = mt.temporality == temporalityDelta
		if mt.delta && r.set.cfg.Delta == DeltaRefuse {
			r.refuseMetric(mt.points, wire.ReasonUnsupportedTemporality, "delta temporality is not taken")
			return nil
		}
		if !mt.delta && mt.temporality != temporalityCumulative {
			r.refuseMetric(mt.points, wire.ReasonUnsupportedTemporality, fmt.Sprintf("aggregation temporality %d is unknown", mt.temporality))
			return nil
		}
	}
	name, key, err := r.metricName()
	if err != nil {
		return err
	}
	if name.detail != "" {
		r.refuseMetric(mt.points, wire.ReasonMissingMetricName, name.detail)
		return nil
	}
	mt.promName = name.name
	mt.ctx = join(r.res.hash, r.scope.hash, key)
	if r.metrics, err = wire.Grow(&r.budget, r.metrics, 24); err != nil {
		return err
	}
	r.metrics = append(r.metrics, metricSpan{
		off: uint32(off), end: uint32(end), dataOff: data.Off, dataEnd: data.Off + data.Len, field: field, scope: uint32(len(r.scopes) - 1),
	})
	before := len(r.points)
	if err := r.dataPoints(int(data.Off), int(data.Off+data.Len)); err != nil {
		return err
	}
	if len(r.points) == before {
		return nil
	}
	return r.addMetadata(name)
}

// metricFields reads the fields of a Metric message into r.mt. Of several kinds
// of data the last one counts.
func (r *Request) metricFields(off, end int) (data signal.ByteRange, field int32, err error) {
	const what = "metric"
	r.mt = metric{}
	mt := &r.mt
	b := r.body[:end]
	for i := off; i < end; {
		num, wt, s, e, err := r.field(b, i, what)
		if err != nil {
			return data, 0, err
		}
		kind := kindNone
		switch num {
		case 1, 2, 3:
		case 5:
			kind = kindGauge
		case 7:
			kind = kindSum
		case 9:
			kind = kindHistogram
		case 10:
			kind = kindExponential
		case 11:
			kind = kindSummary
		default:
			i = e
			continue
		}
		if wt != wire.Bytes {
			return data, 0, r.wrongType(i, what, num, wt, wire.Bytes)
		}
		switch num {
		case 1:
			mt.name = b[s:e]
		case 2:
			mt.description = b[s:e]
		case 3:
			mt.unit = b[s:e]
		default:
			mt.kind, field, data = kind, num, signal.RangeOf(s, e)
		}
		i = e
	}
	return data, field, nil
}

// dataFields reads what a Gauge, Sum, … says of its points and counts them.
func (r *Request) dataFields(off, end int) error {
	const what = "metric data"
	mt := &r.mt
	b := r.body[:end]
	for i := off; i < end; {
		num, wt, s, e, err := r.field(b, i, what)
		if err != nil {
			return err
		}
		want := wt
		switch {
		case num == fieldDataPoints:
			mt.points++
			want = wire.Bytes
		case num == 2 && mt.kind != kindGauge && mt.kind != kindSummary:
			want = wire.Varint
			mt.temporality, _ = wire.Uvarint(b, s)
		case num == 3 && mt.kind == kindSum:
			want = wire.Varint
			v, _ := wire.Uvarint(b, s)
			mt.monotonic = v != 0
		}
		if wt != want {
			return r.wrongType(i, what, num, wt, want)
		}
		i = e
	}
	return nil
}

// dataPoints decodes the points of the metric at hand.
func (r *Request) dataPoints(i, end int) error {
	b := r.body[:end]
	for i < end {
		num, _, s, e, err := r.field(b, i, "metric data")
		if err != nil {
			return err
		}
		if num == fieldDataPoints {
			r.pt.begin(i, e)
			switch r.mt.kind {
			case kindGauge, kindSum:
				err = r.numberPoint(s, e)
			case kindHistogram:
				err = r.histogramPoint(s, e)
			case kindExponential:
				err = r.exponentialPoint(s, e)
			case kindSummary:
				err = r.summaryPoint(s, e)
			}
			if err != nil {
				return err
			}
		}
		i = e
	}
	return nil
}
