package otlpspans

import (
	"fmt"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/vedette-io/vedette/internal/signal"
)

// Traces returns s in the Collector's form.
func Traces(s *signal.Spans) (ptrace.Traces, error) {
	td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(AppendRequest(nil, s))
	if err != nil {
		return td, fmt.Errorf("convert %d spans: %w", s.Len(), err)
	}
	return td, nil
}

// AppendJSON appends s as OTLP/JSON.
func AppendJSON(dst []byte, s *signal.Spans) ([]byte, error) {
	td, err := Traces(s)
	if err != nil {
		return dst, err
	}
	b, err := (&ptrace.JSONMarshaler{}).MarshalTraces(td)
	if err != nil {
		return dst, fmt.Errorf("encode %d spans as JSON: %w", s.Len(), err)
	}
	return append(dst, b...), nil
}
