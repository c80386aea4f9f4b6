package spanmetrics

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/vedette-io/vedette/internal/labels"
)

const (
	metricName = "__name__"

	labelSpanName = "span_name"
	labelKind     = "span_kind"
	labelStatus   = "status_code"
	labelOverflow = "otel_metric_overflow"
	labelClient   = "client"
	labelServer   = "server"
	labelType     = "connection_type"

	graphRequests = "traces_service_graph_request_total"
	graphFailed   = "traces_service_graph_request_failed_total"
	graphServer   = "traces_service_graph_request_server_seconds"
	graphClient   = "traces_service_graph_request_client_seconds"

	// overflowNode is both ends of the edge that stands for those beyond the limit.
	overflowNode = "overflow"

	// unknownService is the service of a resource that names none.
	unknownService = "unknown_service"
	// userNode calls the services whose server spans are roots.
	userNode = "user"

	// maxValueBytes is where names of services and spans and values of dimensions
	// are cut.
	maxValueBytes = 512
)

// convention is how metrics and labels are called.
type convention struct{ calls, duration, service string }

func conventionOf(name string) convention {
	if name == NamesOpenTelemetry {
		return convention{"traces_span_metrics_calls_total", "traces_span_metrics_duration_seconds", "service_name"}
	}
	return convention{"traces_spanmetrics_calls_total", "traces_spanmetrics_latency", "service"}
}

// labels lists the names that a dimension's label must not have.
func (c convention) labels() []string {
	return []string{c.service, labelSpanName, labelKind, labelStatus, labelOverflow, metricName, "le"}
}

// labelName writes an attribute's key as a label's name.
func labelName(key string) string {
	name := strings.Map(func(c rune) rune {
		if c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
			return c
		}
		return '_'
	}, key)
	if name != "" && '0' <= name[0] && name[0] <= '9' {
		name = "_" + name
	}
	return name
}

// kindNames are span kinds as labels show them.
var kindNames = [...]string{
	"SPAN_KIND_UNSPECIFIED", "SPAN_KIND_INTERNAL", "SPAN_KIND_SERVER", "SPAN_KIND_CLIENT", "SPAN_KIND_PRODUCER", "SPAN_KIND_CONSUMER",
}

// statusNames are status codes as labels show them.
var statusNames = [...]string{"STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"}

// connection is what kind of edge it is.
type connection uint8

const (
	direct connection = iota
	messaging
	database
	virtual
)

// connectionNames are the values of connection_type.
var connectionNames = [...]string{"", "messaging_system", "database", "virtual_node"}

// label is a name and its value.
type label struct{ name, value string }

// labelSet is a series' labels in canonical form without its metric's name; that
// goes in at nameAt, and le at leAt.
type labelSet struct {
	bytes        []byte
	nameAt, leAt int
}

// newLabelSet sorts list and leaves empty values out.
func newLabelSet(list []label) labelSet {
	slices.SortFunc(list, func(a, b label) int { return strings.Compare(a.name, b.name) })
	var s labelSet
	for _, l := range list {
		if l.value == "" {
			continue
		}
		s.bytes = labels.Append(s.bytes, l.name, l.value)
		if l.name < metricName {
			s.nameAt = len(s.bytes)
		}
		if l.name < "le" {
			s.leAt = len(s.bytes)
		}
	}
	return s
}

// append appends the set with a metric's name, and le if it is not empty.
func (s *labelSet) append(dst []byte, name, suffix, le string) []byte {
	dst = append(dst, s.bytes[:s.nameAt]...)
	dst = labels.Append(dst, metricName, name+suffix)
	dst = append(dst, s.bytes[s.nameAt:s.leAt]...)
	if le != "" {
		dst = labels.Append(dst, "le", le)
	}
	return append(dst, s.bytes[s.leAt:]...)
}

// cut shortens a value that is too long, between two characters.
func cut(b []byte) []byte {
	if len(b) <= maxValueBytes {
		return b
	}
	n := maxValueBytes
	for n > maxValueBytes-utf8.UTFMax && !utf8.RuneStart(b[n]) {
		n--
	}
	return b[:n]
}

// valid returns b as UTF-8.
func valid(b []byte) []byte {
	if utf8.Valid(b) {
		return b
	}
	return bytes.ToValidUTF8(b, []byte("\uFFFD"))
}
