package zipkin

import (
	"bytes"
	"time"

	"github.com/vedette-io/vedette/ingest/thrift"
)

// Format is an encoding of a list of spans.
type Format int

// Formats.
const (
	JSONV1 Format = iota
	JSONV2
	Thrift
	Proto3
)

// String names the format as Zipkin does.
func (f Format) String() string { return [...]string{"JSON_V1", "JSON_V2", "THRIFT", "PROTO3"}[f] }

// medium is how Zipkin's errors call the format.
func (f Format) medium() string { return [...]string{"json", "json", "TBinary", "proto3"}[f] }

// decoder turns lists of spans into an OTLP request. It is reused.
type decoder struct {
	encoder
	format Format
	index  int    // of the span at hand
	field  string // of it
	err    error  // of the encoder

	json   jsonReader
	thrift thrift.Reader
	span   span
	v1     v1Span
	halves halves

	splits  int // spans of version 1 that were more than one
	payload []byte
}

// decode reads body and returns the OTLP request, which is valid until the next
// call. reserve is asked for memory.
func (d *decoder) decode(f Format, body []byte, now time.Time, reserve func(int) error) ([]byte, error) {
	d.build.Reset()
	d.build.Reserve = reserve
	d.now, d.format, d.err, d.splits = now.UnixMicro(), f, nil, 0
	d.index, d.field = -1, ""
	if !looksLike(f, body) {
		return nil, &FormatError{Format: f.medium(), Index: -1, Detail: "Expected a " + f.String() + " encoded list", reason: reasonOf("")}
	}
	if err := d.build.Expect(len(body)); err != nil {
		return nil, err
	}
	var err error
	switch f {
	case JSONV1:
		err = d.jsonV1(body)
	case JSONV2:
		err = d.jsonV2(body)
	case Thrift:
		err = d.thriftList(body)
	case Proto3:
		err = d.proto3(body)
	}
	if err != nil {
		return nil, err
	}
	d.payload = d.build.Payload(d.payload[:0])
	return d.payload, nil
}

// release gives back memory that is more than a usual request needs, and all
// that points into the body.
func (d *decoder) release() {
	d.build.Reset()
	d.json.b, d.json.reserve, d.thrift = nil, nil, thrift.Reader{}
	d.span.reset()
	d.v1.reset()
	const mostTags = 1000
	if cap(d.span.tags)+cap(d.span.annotations)+cap(d.v1.binary)+cap(d.v1.annotations) > mostTags {
		d.span, d.v1, d.halves = span{}, v1Span{}, halves{}
	}
	const most = 4 << 20
	if cap(d.payload) > most {
		d.payload = nil
	}
	if cap(d.json.unescaped) > most {
		d.json.unescaped = nil
	}
}

// looksLike reports whether body begins as a list of the format does.
func looksLike(f Format, body []byte) bool {
	switch f {
	case Thrift:
		// The type of the elements. Some clients write the type of a string.
		return body[0] == thrift.Struct || body[0] == thrift.String
	case Proto3:
		return body[0] == 10
	}
	body = bytes.TrimLeft(body, " \t\r\n")
	return len(body) > 0 && body[0] == '['
}

// add checks and writes a span.
func (d *decoder) add(s *span) *invalid {
	if bad := s.check(); bad != nil {
		return bad
	}
	if err := d.encode(s); err != nil && d.err == nil {
		d.err = err
	}
	return nil
}

// refuse is the error of a request with a bad span.
func (d *decoder) refuse(bad *invalid) error {
	return &FormatError{Format: d.format.medium(), Index: d.index, Field: bad.field, Detail: bad.detail, reason: reasonOf(bad.field)}
}
