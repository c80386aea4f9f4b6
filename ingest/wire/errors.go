package wire

import "fmt"

// SyntaxError reports bytes that are not the message they claim to be. It
// refuses the whole request.
type SyntaxError struct {
	Message string // what was to be decoded: the name of a protobuf message, "snappy block", …
	Offset  int    // in the uncompressed body
	Detail  string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("decode %s: byte %d: %s", e.Message, e.Offset, e.Detail)
}

// SizeError reports a request that is larger than allowed. It refuses the whole
// request.
type SizeError struct {
	What  string
	Got   int
	Limit int
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("decode request: %s: got %d bytes, want <= %d", e.What, e.Got, e.Limit)
}

// Reason says why a part of a well-formed request was refused.
type Reason uint8

// Reasons, in the order in which a series is checked.
const (
	ReasonNone Reason = iota
	ReasonBadReference
	ReasonTooManyLabels
	ReasonEmptyLabelName
	ReasonLabelNameTooLong
	ReasonLabelValueTooLong
	ReasonInvalidUTF8
	ReasonDuplicateLabel
	ReasonMissingMetricName
	ReasonNoSamples
	ReasonTooFarInFuture
	ReasonInvalidHistogram
	ReasonInvalidExemplar
	ReasonInvalidMetadata
	ReasonNoValue
	ReasonUnsupportedType
	ReasonUnsupportedTemporality
	ReasonInvalidLine
	ReasonInvalidTraceID
	ReasonInvalidSpanID
	ReasonInvalidSpan
	ReasonInvalidRecord
	ReasonRecordTooLarge
	NumReasons
)

// String returns the reason as a metric's label value.
func (r Reason) String() string {
	names := [NumReasons]string{
		"none", "bad_reference", "too_many_labels", "empty_label_name", "label_name_too_long",
		"label_value_too_long", "invalid_utf8", "duplicate_label", "missing_metric_name",
		"no_samples", "too_far_in_future", "invalid_histogram", "invalid_exemplar", "invalid_metadata",
		"no_value", "unsupported_type", "unsupported_temporality", "invalid_line",
		"invalid_trace_id", "invalid_span_id", "invalid_span", "invalid_record", "record_too_large",
	}
	if r >= NumReasons {
		return "unknown"
	}
	return names[r]
}

// InvalidError describes a part of a request that was refused while the rest
// was kept.
type InvalidError struct {
	Reason Reason
	Series string // the series as text, cut short; empty for metadata, spans and log records
	Detail string
}

func (e *InvalidError) Error() string {
	if e.Series == "" {
		return e.Detail
	}
	return "series " + e.Series + ": " + e.Detail
}

// Rejects counts what a decode left out of the batch.
type Rejects struct {
	ByReason [NumReasons]int // samples, exemplars and metadata entries, and series that had none of them

	Samples    int // float samples
	Histograms int
	Exemplars  int
	Spans      int
	Records    int // of logs

	First *InvalidError // nil if nothing was refused
}

// Any reports whether anything was refused.
func (r *Rejects) Any() bool { return r.First != nil }

// Note counts n refused things and keeps the first refusal for the answer.
func (r *Rejects) Note(n int, e InvalidError) {
	r.ByReason[e.Reason] += n
	if r.First == nil {
		r.First = &e
	}
}

// Total returns how many things were refused.
func (r *Rejects) Total() int {
	n := 0
	for _, k := range r.ByReason {
		n += k
	}
	return n
}
