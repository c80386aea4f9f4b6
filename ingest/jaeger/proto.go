package jaeger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/vedette-io/vedette/ingest/wire"
)

var errCutShort = errors.New("protobuf: cut short or not valid")

// protoRequest reads a jaeger.api_v2.PostSpansRequest.
func (d *decoder) protoRequest(body []byte) error {
	f := wire.FieldsOf(body)
	for f.Next() {
		if !f.Is(1, wire.Bytes) {
			continue
		}
		if err := d.protoBatch(f.Bytes); err != nil {
			return err
		}
	}
	if f.Bad() {
		return d.refuse(errCutShort)
	}
	return nil
}

// protoBatch reads a Batch. The process comes behind the spans as a rule, so it is
// looked for first.
func (d *decoder) protoBatch(b []byte) error {
	d.process.reset()
	f := wire.FieldsOf(b)
	for f.Next() {
		if f.Is(2, wire.Bytes) {
			if err := d.process.proto(f.Bytes); err != nil {
				return d.refuse(err)
			}
		}
	}
	if f.Bad() {
		return d.refuse(errCutShort)
	}
	f = wire.FieldsOf(b)
	for f.Next() {
		if !f.Is(1, wire.Bytes) {
			continue
		}
		d.index++
		s := &d.span
		s.reset()
		own, err := s.proto(f.Bytes)
		if err != nil {
			return d.refuse(err)
		}
		p := &d.process
		if own != nil {
			p = &d.other
			p.reset()
			if err := p.proto(own); err != nil {
				return d.refuse(err)
			}
		}
		if err := d.encode(s, p); err != nil {
			return err
		}
	}
	d.index = -1
	return nil
}

func (p *process) proto(b []byte) error {
	p.reset()
	p.key = b
	f := wire.FieldsOf(b)
	for f.Next() {
		switch {
		case f.Is(1, wire.Bytes):
			p.service = f.Bytes
		case f.Is(2, wire.Bytes):
			t, err := tagProto(f.Bytes)
			if err == nil {
				err = p.addTag(t)
			}
			if err != nil {
				return err
			}
		}
	}
	if f.Bad() {
		return errCutShort
	}
	return nil
}

// proto reads a Span and returns its own process, if it has one. Logs are read
// after the tags, wherever they stand.
func (s *span) proto(b []byte) (own []byte, err error) {
	var startSeconds, startNanos, seconds, nanos int64
	logs := false
	f := wire.FieldsOf(b)
	for err == nil && f.Next() {
		switch {
		case f.Is(1, wire.Bytes):
			s.traceHigh, s.traceLow, err = traceIDOf(f.Bytes)
		case f.Is(2, wire.Bytes):
			s.id, err = spanIDOf(f.Bytes)
		case f.Is(3, wire.Bytes):
			s.name = f.Bytes
		case f.Is(4, wire.Bytes):
			var r reference
			if r, err = referenceProto(f.Bytes); err == nil {
				err = s.addReference(r)
			}
		case f.Is(5, wire.Varint):
			s.flags = uint32(f.Value)
		case f.Is(6, wire.Bytes):
			startSeconds, startNanos, err = timeProto(f.Bytes)
		case f.Is(7, wire.Bytes):
			seconds, nanos, err = timeProto(f.Bytes)
		case f.Is(8, wire.Bytes):
			var t tag
			if t, err = tagProto(f.Bytes); err == nil {
				err = s.addTag(t)
			}
		case f.Is(9, wire.Bytes):
			logs = true
		case f.Is(10, wire.Bytes):
			own = f.Bytes
			if own == nil {
				own = []byte{}
			}
		case f.Is(12, wire.Bytes):
			if len(s.warnings) == maxLogs {
				return nil, fmt.Errorf("warnings: got more than %d", maxLogs)
			}
			s.warnings = append(s.warnings, f.Bytes)
		}
	}
	if err == nil && f.Bad() {
		err = errCutShort
	}
	s.own = len(s.tags)
	if err != nil {
		return nil, err
	}
	if logs {
		f = wire.FieldsOf(b)
		for f.Next() {
			if f.Is(9, wire.Bytes) {
				if err := s.logProto(f.Bytes); err != nil {
					return nil, err
				}
			}
		}
	}
	return own, s.setTimes(startSeconds, startNanos, seconds, nanos)
}

func (s *span) logProto(b []byte) error {
	begin := len(s.tags)
	nanos := int64(0)
	f := wire.FieldsOf(b)
	for f.Next() {
		switch {
		case f.Is(1, wire.Bytes):
			sec, ns, err := timeProto(f.Bytes)
			if err != nil {
				return err
			}
			if sec < 0 || sec > math.MaxInt64/1_000_000_000-1 || ns < 0 || ns >= 1e9 {
				return fmt.Errorf("logs: timestamp: got %d s, %d ns, want a time from 1970 to 2262", sec, ns)
			}
			nanos = sec*1e9 + ns
		case f.Is(2, wire.Bytes):
			t, err := tagProto(f.Bytes)
			if err == nil {
				err = s.addTag(t)
			}
			if err != nil {
				return err
			}
		}
	}
	if f.Bad() {
		return errCutShort
	}
	return s.addLog(nanos, begin)
}

func traceIDOf(b []byte) (high, low uint64, err error) {
	switch len(b) {
	case 8:
		return 0, binary.BigEndian.Uint64(b), nil
	case 16:
		return binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), nil
	}
	return 0, 0, fmt.Errorf("traceId: got %d bytes, want 16 or 8", len(b))
}

func spanIDOf(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("spanId: got %d bytes, want 8", len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// timeProto reads a Timestamp or a Duration.
func timeProto(b []byte) (seconds, nanos int64, err error) {
	f := wire.FieldsOf(b)
	for f.Next() {
		switch {
		case f.Is(1, wire.Varint):
			seconds = int64(f.Value)
		case f.Is(2, wire.Varint):
			nanos = int64(int32(f.Value))
		}
	}
	if f.Bad() {
		return 0, 0, errCutShort
	}
	return seconds, nanos, nil
}

func referenceProto(b []byte) (r reference, err error) {
	f := wire.FieldsOf(b)
	for err == nil && f.Next() {
		switch {
		case f.Is(1, wire.Bytes):
			r.traceHigh, r.traceLow, err = traceIDOf(f.Bytes)
		case f.Is(2, wire.Bytes):
			r.id, err = spanIDOf(f.Bytes)
		case f.Is(3, wire.Varint):
			r.follows = f.Value != 0
		}
	}
	if err == nil && f.Bad() {
		err = errCutShort
	}
	return r, err
}

// tagProto reads a KeyValue.
func tagProto(b []byte) (t tag, err error) {
	var text, binary []byte
	var number, boolean, double uint64
	f := wire.FieldsOf(b)
	for f.Next() {
		switch {
		case f.Is(1, wire.Bytes):
			t.key = f.Bytes
		case f.Is(2, wire.Varint):
			if f.Value <= uint64(typeBinary) { // in the same order
				t.kind = tagType(f.Value)
			}
		case f.Is(3, wire.Bytes):
			text = f.Bytes
		case f.Is(4, wire.Varint):
			boolean = f.Value
		case f.Is(5, wire.Varint):
			number = f.Value
		case f.Is(6, wire.Fixed64):
			double = f.Value
		case f.Is(7, wire.Bytes):
			binary = f.Bytes
		}
	}
	if f.Bad() {
		return t, errCutShort
	}
	switch t.kind {
	case typeBool:
		t.bits = boolean
	case typeInt:
		t.bits = number
	case typeDouble:
		t.bits = double
	case typeBinary:
		t.text = binary
	default:
		t.text = text
	}
	return t, nil
}
