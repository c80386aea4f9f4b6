package traceapi

import (
	"strconv"
	"strings"
	"time"

	"github.com/vedette-io/vedette/query/traceql"
)

// Quote returns s as a TraceQL string.
func Quote(s string) string { return traceql.String(s).String() }

// Attribute returns an attribute's name, which is not empty, as TraceQL writes
// it, in quotes if it needs them. traceql.ScopeNone is whatever of the span has
// it first.
func Attribute(scope traceql.Scope, name string) string {
	return traceql.Attribute{Scope: scope, Name: strings.ToValidUTF8(name, "\uFFFD")}.String()
}

// Equals returns a TraceQL condition that attr, as Attribute returned it, has a
// value that a person would write as text: also the number or bool of that
// text, for clients that know no types.
func Equals(attr, text string) string {
	condition := attr + " = " + Quote(text)
	typed := text == "true" || text == "false"
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		typed = strconv.FormatInt(n, 10) == text
	} else if f, err := strconv.ParseFloat(text, 64); err == nil {
		typed = strconv.FormatFloat(f, 'f', -1, 64) == text
	}
	if !typed {
		return condition
	}
	return condition + " || " + attr + " = " + text
}

// Duration returns d as TraceQL writes it.
func Duration(d time.Duration) string { return traceql.Duration(int64(d)).String() }

// AllOf returns a filter of spans that meet every condition.
func AllOf(conditions ...string) string {
	switch len(conditions) {
	case 0:
		return "{}"
	case 1:
		return "{ " + conditions[0] + " }"
	}
	return "{ (" + strings.Join(conditions, ") && (") + ") }"
}
