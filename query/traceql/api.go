package traceql

import (
	"context"

	"github.com/vedette-io/vedette/internal/signal"
)

// Querier answers questions about the spans of a tenant. Times are unix
// nanoseconds, both inclusive; End 0 means now and Start 0 the oldest span.
type Querier interface {
	// Trace appends all spans of a trace to dst, none if there is no such trace.
	// Spans between both times are looked for first; the whole trace comes even if
	// it reaches beyond them.
	Trace(ctx context.Context, r TraceRequest, dst *signal.Spans) (Stats, error)

	// Search finds the newest traces that match.
	Search(ctx context.Context, r SearchRequest) (*SearchResult, error)

	// Metrics evaluates a query that ends in a metrics function, at Start, Start +
	// Step, … up to End, as Range says: the value at a time T is of the spans that
	// start after T - Step and until T. An instant query has a Step of End - Start
	// and one value, at End.
	Metrics(ctx context.Context, r MetricsRequest) (*MetricsResult, error)

	// Tags lists the names of attributes, by scope.
	Tags(ctx context.Context, r TagsRequest) (*TagsResult, error)

	// TagValues lists the values of one attribute or intrinsic.
	TagValues(ctx context.Context, r TagsRequest) (*TagValuesResult, error)

	// Operations lists the operations of a service, or of all services if it is
	// empty, sorted.
	Operations(ctx context.Context, r OperationsRequest) ([]Operation, Stats, error)
}

// Stats say what an answer cost and whether it is whole.
type Stats struct {
	InspectedBytes  int64 // of stored columns that were read
	InspectedSpans  int64
	InspectedTraces int64
	Groups          int // row groups that could not be ruled out
	TotalGroups     int

	// Partial is not empty if a limit on bytes or time, or a damaged block, ended
	// the work early: it says which, for a person.
	Partial string
}

// TraceRequest asks for one trace.
type TraceRequest struct {
	Tenant     string
	ID         signal.TraceID
	Start, End int64
}

// SearchRequest asks for traces.
type SearchRequest struct {
	Tenant          string
	Query           string // TraceQL; empty is {}
	Start, End      int64
	Limit           int // traces; 0 is 20
	SpansPerSpanset int // spans shown of each spanset; 0 is 3, -1 is all

	// MinDuration and MaxDuration bound the whole trace, nanoseconds; 0 does not.
	MinDuration, MaxDuration int64

	// Progress is called now and then with the best answer so far, by the
	// goroutine of Search; nil is not.
	Progress func(*SearchResult)
}

// SearchResult holds traces, those that start last first.
type SearchResult struct {
	Traces []TraceSummary
	Stats  Stats
}

// TraceSummary is a trace that was found.
type TraceSummary struct {
	ID            signal.TraceID
	RootService   string // of the span without parent; empty if that has not arrived
	RootName      string
	Start         int64            // of the first span, unix nanoseconds
	Duration      int64            // until the end of the last span
	Spansets      []Spanset        // that matched; one but for by()
	Services      []ServiceSummary // of all spans of the trace, sorted by name
	Spans, Errors int
}

// ServiceSummary counts a service's spans in a trace.
type ServiceSummary struct {
	Service       string
	Spans, Errors int
}

// Spanset is a set of spans of one trace.
type Spanset struct {
	Attrs   []KeyValue // of the set: what it was grouped by and aggregates
	Spans   []SpanMatch
	Matched int // spans in the set, of which Spans shows some
}

// SpanMatch is a span of a spanset.
type SpanMatch struct {
	ID       signal.SpanID
	Name     string
	Service  string
	Start    int64 // unix nanoseconds
	Duration int64
	Attrs    []KeyValue // those that the query names
}

// KeyValue is an attribute or intrinsic in an answer.
type KeyValue struct {
	Key   string // of a span: as the query wrote it, without scope: "service.name", "status"; of a spanset: "by(…)", "count()"
	Value Static
}

// MetricsRequest asks for series computed from spans.
type MetricsRequest struct {
	Tenant     string
	Query      string
	Start, End int64
	Step       int64 // nanoseconds
	Exemplars  int   // most exemplars of all series together; 0 is none
	MaxSeries  int   // 0 is the engine's limit
}

// MetricsResult holds series with one value per step.
type MetricsResult struct {
	Times  []int64 // unix nanoseconds
	Series []MetricsSeries
	Stats  Stats
}

// MetricsSeries is one series. Values beside MetricsResult.Times; NaN is none.
type MetricsSeries struct {
	Labels    []KeyValue // Key as the query wrote it, with scope
	Values    []float64
	Exemplars []Exemplar
}

// Exemplar points from a series to a span that is part of it.
type Exemplar struct {
	TraceID signal.TraceID
	SpanID  signal.SpanID
	Time    int64 // unix nanoseconds
	Value   float64
	Labels  []KeyValue
}

// TagsRequest asks for names or values of attributes.
type TagsRequest struct {
	Tenant     string
	Start, End int64
	Scope      string // resource, span, event, link, instrumentation, intrinsic; empty is all
	Name       string // for values: as TraceQL writes it, "resource.service.name", ".http.url", "status"
	Query      string // TraceQL filter that the spans match; empty is all
	Limit      int    // 0 is the engine's
}

// TagsResult holds names by scope.
type TagsResult struct {
	Scopes []TagScope
	Stats  Stats
}

// TagScope is a scope and its attributes' names, sorted.
type TagScope struct {
	Name string
	Tags []string
}

// TagValuesResult holds distinct values, sorted.
type TagValuesResult struct {
	Values []Static
	Stats  Stats
}

// OperationsRequest asks for span names.
type OperationsRequest struct {
	Tenant     string
	Service    string
	Kind       int // -1 is any
	Start, End int64
}

// Operation is a name of spans of a service.
type Operation struct {
	Service string
	Name    string
	Kind    uint8 // as signal.Spans.Kinds
}
