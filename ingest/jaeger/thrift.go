package jaeger

import (
	"fmt"
	"math"

	"github.com/vedette-io/vedette/ingest/thrift"
)

// field is the number and type of a field of a struct.
type field struct {
	id   int16
	kind byte
}

// thriftBatch reads a jaeger.thrift Batch.
func (d *decoder) thriftBatch(body []byte) error {
	r := thrift.NewReader(body)
	spans := -1 // where they are
	haveProcess := false
	for more := true; more; {
		kind, id := r.Field()
		switch (field{id, kind}) {
		case field{0, thrift.Stop}:
			more = false
		case field{1, thrift.Struct}:
			at := r.Offset()
			if err := d.process.thrift(&r); err != nil {
				return d.refuse(err)
			}
			d.process.key, haveProcess = body[at:r.Offset()], true
		case field{2, thrift.List}:
			spans = r.Offset()
			if !haveProcess {
				r.Skip(thrift.List) // until the process is known
			} else if err := d.thriftSpans(&r); err != nil {
				return err
			} else {
				spans = -2
			}
		default:
			r.Skip(kind)
		}
	}
	switch {
	case r.Err() != nil:
		return d.refuse(r.Err())
	case !haveProcess:
		return d.refuse(fmt.Errorf("required field Process is not set"))
	case spans == -1:
		return d.refuse(fmt.Errorf("required field Spans is not set"))
	case spans >= 0:
		r.Seek(spans)
		return d.thriftSpans(&r)
	}
	return nil
}

func (d *decoder) thriftSpans(r *thrift.Reader) error {
	for n := r.List(thrift.Struct); n > 0; n-- {
		d.index++
		s := &d.span
		s.reset()
		err := s.thrift(r)
		if r.Err() != nil {
			err = r.Err()
		}
		if err != nil {
			return d.refuse(err)
		}
		if err := d.encode(s, &d.process); err != nil {
			return err
		}
	}
	if r.Err() != nil {
		return d.refuse(r.Err())
	}
	d.index = -1
	return nil
}

func (p *process) thrift(r *thrift.Reader) (err error) {
	p.reset()
	for err == nil {
		kind, id := r.Field()
		switch (field{id, kind}) {
		case field{0, thrift.Stop}:
			return r.Err()
		case field{1, thrift.String}:
			p.service = r.Bytes()
		case field{2, thrift.List}:
			for n := r.List(thrift.Struct); n > 0 && err == nil && r.Err() == nil; n-- {
				err = p.addTag(tagThrift(r))
			}
		default:
			r.Skip(kind)
		}
	}
	return err
}

// thrift reads a jaeger.thrift Span. Logs come after the tags, or are put there.
func (s *span) thrift(r *thrift.Reader) (err error) {
	var start, duration int64
	logs := -1
	for err == nil {
		kind, id := r.Field()
		switch (field{id, kind}) {
		case field{0, thrift.Stop}:
			s.own = len(s.tags)
			if logs >= 0 && r.Err() == nil {
				end := r.Offset()
				r.Seek(logs)
				if err := s.logsThrift(r); err != nil {
					return err
				}
				r.Seek(end)
			}
			return s.setTimes(floorDiv(start, 1e6), floorMod(start, 1e6)*1000, duration/1e6, duration%1e6*1000)
		case field{1, thrift.I64}:
			s.traceLow = uint64(r.Int64())
		case field{2, thrift.I64}:
			s.traceHigh = uint64(r.Int64())
		case field{3, thrift.I64}:
			s.id = uint64(r.Int64())
		case field{4, thrift.I64}:
			s.parent = uint64(r.Int64())
		case field{5, thrift.String}:
			s.name = r.Bytes()
		case field{6, thrift.List}:
			for n := r.List(thrift.Struct); n > 0 && err == nil && r.Err() == nil; n-- {
				err = s.addReference(referenceThrift(r))
			}
		case field{7, thrift.I32}:
			s.flags = uint32(r.Int32())
		case field{8, thrift.I64}:
			start = r.Int64()
		case field{9, thrift.I64}:
			duration = r.Int64()
		case field{10, thrift.List}:
			for n := r.List(thrift.Struct); n > 0 && err == nil && r.Err() == nil; n-- {
				err = s.addTag(tagThrift(r))
			}
		case field{11, thrift.List}:
			logs = r.Offset()
			r.Skip(thrift.List)
		default:
			r.Skip(kind)
		}
	}
	return err
}

func (s *span) logsThrift(r *thrift.Reader) (err error) {
	for n := r.List(thrift.Struct); n > 0 && err == nil && r.Err() == nil; n-- {
		micros, begin := int64(0), len(s.tags)
		for more := true; more && err == nil; {
			kind, id := r.Field()
			switch (field{id, kind}) {
			case field{0, thrift.Stop}:
				more = false
			case field{1, thrift.I64}:
				if micros = r.Int64(); micros < 0 || micros > math.MaxInt64/1000 {
					err = fmt.Errorf("logs: timestamp: got %d, want microseconds", micros)
				}
			case field{2, thrift.List}:
				for n := r.List(thrift.Struct); n > 0 && err == nil && r.Err() == nil; n-- {
					err = s.addTag(tagThrift(r))
				}
			default:
				r.Skip(kind)
			}
		}
		if err == nil && r.Err() == nil {
			err = s.addLog(micros*1000, begin)
		}
	}
	return err
}

func referenceThrift(r *thrift.Reader) (ref reference) {
	for {
		kind, id := r.Field()
		switch (field{id, kind}) {
		case field{0, thrift.Stop}:
			return ref
		case field{1, thrift.I32}:
			ref.follows = r.Int32() != 0
		case field{2, thrift.I64}:
			ref.traceLow = uint64(r.Int64())
		case field{3, thrift.I64}:
			ref.traceHigh = uint64(r.Int64())
		case field{4, thrift.I64}:
			ref.id = uint64(r.Int64())
		default:
			r.Skip(kind)
		}
	}
}

func tagThrift(r *thrift.Reader) (t tag) {
	var text, binary []byte
	var number, boolean, double uint64
	for {
		kind, id := r.Field()
		switch (field{id, kind}) {
		case field{0, thrift.Stop}:
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
			return t
		case field{1, thrift.String}:
			t.key = r.Bytes()
		case field{2, thrift.I32}:
			// STRING, DOUBLE, BOOL, LONG, BINARY
			if v := uint32(r.Int32()); v < 5 {
				t.kind = [...]tagType{typeString, typeDouble, typeBool, typeInt, typeBinary}[v]
			}
		case field{3, thrift.String}:
			text = r.Bytes()
		case field{4, thrift.Double}:
			double = math.Float64bits(r.Double())
		case field{5, thrift.Bool}:
			if r.Bool() {
				boolean = 1
			}
		case field{6, thrift.I64}:
			number = uint64(r.Int64())
		case field{7, thrift.String}:
			binary = r.Bytes()
		default:
			r.Skip(kind)
		}
	}
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func floorMod(a, b int64) int64 { return a - floorDiv(a, b)*b }
