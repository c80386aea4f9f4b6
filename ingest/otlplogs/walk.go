package otlplogs

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

// Numbers of fields of the envelopes.
const (
	fieldResourceLogs = 1 // of ExportLogsServiceRequest
	fieldScopeLogs    = 2 // of ResourceLogs
	fieldOldScopeLogs = 1000
	fieldRecord       = 2 // of ScopeLogs
)

// request checks an ExportLogsServiceRequest.
func (r *Request) request() error {
	const what = "request"
	b := r.body
	for i := 0; i < len(b); {
		tag, s, e := wire.Tagged(b, i)
		if e < 0 {
			return r.walk.Malformed(b, i, what)
		}
		if tag == fieldResourceLogs<<3|wire.Bytes {
			if err := r.resourceLogs(s, e); err != nil {
				return err
			}
		} else if err := r.walk.Unknown(i, what, tag, 1); err != nil {
			return err
		}
		i = e
	}
	return nil
}

// seal computes the hash of an envelope that is complete.
func (r *Request) seal(e *envelope) {
	extras := r.extras[e.Begin:e.End]
	if len(extras) == 1 { // nearly always
		e.hash = xxhash.Sum64(r.at(extras[0]))
		return
	}
	var d xxhash.Digest
	d.Reset()
	for _, x := range extras {
		_, _ = d.Write(r.at(x))
	}
	e.hash = d.Sum64()
}

func (r *Request) at(x signal.ByteRange) []byte { return r.body[x.Off : x.Off+x.Len] }

// resourceLogs checks a ResourceLogs message. What surrounds the records may stand
// behind them, so it is read first.
func (r *Request) resourceLogs(off, end int) (err error) {
	rows, extras := len(r.records), len(r.extras)
	env, child, err := r.resourceHead(off, end)
	if err != nil {
		return err
	}
	r.envelope = r.walk.Fault
	if r.resources, err = wire.Grow(&r.budget, r.resources, envelopeBytes); err != nil {
		return err
	}
	r.resources = append(r.resources, env)
	if err := r.addService(); err != nil {
		return err
	}
	b := r.body[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if tag == child {
			if err := r.scopeLogs(s, e); err != nil {
				return err
			}
		}
		i = e
	}
	if len(r.records) == rows {
		r.resources = r.resources[:len(r.resources)-1]
		r.extras = r.extras[:extras]
		l := &r.Logs
		l.Buf = l.Buf[:l.Services[len(l.Services)-1].Name.Off]
		l.Services = l.Services[:len(l.Services)-1]
	}
	return nil
}

// addService begins the counts of the resource at hand.
func (r *Request) addService() (err error) {
	l := &r.Logs
	if l.Services, err = wire.Grow(&r.budget, l.Services, serviceBytes); err != nil {
		return err
	}
	if l.Buf, err = wire.GrowBuf(&r.budget, l.Buf, len(r.service)); err != nil {
		return err
	}
	begin := len(l.Buf)
	l.Buf = append(l.Buf, r.service...)
	l.Services = append(l.Services, signal.LogService{Name: signal.RangeOf(begin, len(l.Buf))})
	return nil
}

// resourceHead checks a ResourceLogs message but for the records, which are in
// fields with the tag child.
func (r *Request) resourceHead(off, end int) (env envelope, child uint64, err error) {
	const what = "resource logs"
	env.Envelope = r.extras.Envelope()
	child = fieldOldScopeLogs<<3 | wire.Bytes
	r.walk.Fault, r.service = wire.Fault{}, nil
	b := r.body[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if e < 0 {
			return env, 0, r.walk.Malformed(b, i, what)
		}
		isExtra := true
		switch tag {
		case 1<<3 | wire.Bytes:
			err = r.resource(s, e)
		case fieldScopeLogs<<3 | wire.Bytes:
			child, isExtra = tag, false
		case fieldOldScopeLogs<<3 | wire.Bytes:
			isExtra = false
		case 3<<3 | wire.Bytes:
			r.walk.Text(b[s:e], "schema URL of a resource")
		default:
			err = r.walk.Unknown(i, what, tag, 3)
			if tag>>3 == fieldOldScopeLogs {
				err = r.walk.Unknown(i, what, tag, fieldOldScopeLogs)
			}
		}
		if err == nil && isExtra {
			err = r.extras.Add(&r.budget, &env.Envelope, i, e)
		}
		if err != nil {
			return env, 0, err
		}
		i = e
	}
	r.seal(&env)
	return env, child, nil
}

// resource checks a Resource message, or one of several pieces.
func (r *Request) resource(off, end int) error {
	const what = "resource"
	b := r.body[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if e < 0 {
			return r.walk.Malformed(b, i, what)
		}
		var err error
		switch tag {
		case 1<<3 | wire.Bytes:
			r.service = serviceName(b, s, e, r.service)
			err = r.walk.KeyValue(b, s, e, 0)
		case 2<<3 | wire.Varint:
		case 3<<3 | wire.Bytes:
			err = r.walk.Entity(b, s, e)
		default:
			err = r.walk.Unknown(i, what, tag, 3)
		}
		if err != nil {
			return err
		}
		i = e
	}
	return nil
}

// serviceName returns the value of a KeyValue message whose key is service.name
// and whose value is a string, in the form that everybody writes; have otherwise.
func serviceName(b []byte, off, end int, have []byte) []byte {
	var key, value []byte
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b[:end], i)
		if e < 0 {
			return have
		}
		switch tag {
		case 1<<3 | wire.Bytes:
			key = b[s:e]
		case 2<<3 | wire.Bytes:
			value = b[s:e]
		}
		i = e
	}
	if string(key) != "service.name" || len(value) == 0 {
		return have
	}
	if tag, s, e := wire.Tagged(value, 0); tag == 1<<3|wire.Bytes && e == len(value) {
		return value[s:e]
	}
	return have
}

// scopeLogs checks a ScopeLogs message.
func (r *Request) scopeLogs(off, end int) (err error) {
	rows, extras := len(r.records), len(r.extras)
	env, err := r.scopeHead(off, end)
	if err != nil {
		return err
	}
	outer := r.envelope
	if outer.Reason == wire.ReasonNone {
		r.envelope = r.walk.Fault
	}
	if r.scopes, err = wire.Grow(&r.budget, r.scopes, scopeBytes); err != nil {
		return err
	}
	r.scopes = append(r.scopes, scopeEnvelope{env, uint32(len(r.resources) - 1)})
	b := r.body[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if tag == fieldRecord<<3|wire.Bytes {
			if err := r.record(s, e); err != nil {
				return err
			}
		}
		i = e
	}
	if len(r.records) == rows {
		r.scopes = r.scopes[:len(r.scopes)-1]
		r.extras = r.extras[:extras]
	}
	r.envelope = outer
	return nil
}

// scopeHead checks a ScopeLogs message but for the records.
func (r *Request) scopeHead(off, end int) (env envelope, err error) {
	const what = "scope logs"
	env.Envelope = r.extras.Envelope()
	r.walk.Fault = wire.Fault{}
	b := r.body[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if e < 0 {
			return env, r.walk.Malformed(b, i, what)
		}
		if tag == fieldRecord<<3|wire.Bytes {
			i = e
			continue
		}
		switch tag {
		case 1<<3 | wire.Bytes:
			err = r.scope(s, e)
		case 3<<3 | wire.Bytes:
			r.walk.Text(b[s:e], "schema URL of a scope")
		default:
			err = r.walk.Unknown(i, what, tag, 3)
		}
		if err == nil {
			err = r.extras.Add(&r.budget, &env.Envelope, i, e)
		}
		if err != nil {
			return env, err
		}
		i = e
	}
	r.seal(&env)
	return env, nil
}

// scope checks an InstrumentationScope message, or one of several pieces.
func (r *Request) scope(off, end int) error {
	const what = "scope"
	b := r.body[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if e < 0 {
			return r.walk.Malformed(b, i, what)
		}
		var err error
		switch tag {
		case 1<<3 | wire.Bytes:
			r.walk.Text(b[s:e], "name of a scope")
		case 2<<3 | wire.Bytes:
			r.walk.Text(b[s:e], "version of a scope")
		case 3<<3 | wire.Bytes:
			err = r.walk.KeyValue(b, s, e, 0)
		case 4<<3 | wire.Varint:
		default:
			err = r.walk.Unknown(i, what, tag, 4)
		}
		if err != nil {
			return err
		}
		i = e
	}
	return nil
}

// record checks a LogRecord message and notes where it lies, or counts why not.
func (r *Request) record(off, end int) (err error) {
	const what = "log record"
	var at, observed, severity uint64
	r.walk.Fault = r.envelope
	b := r.body[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if e < 0 {
			return r.walk.Malformed(b, i, what)
		}
		switch tag {
		case 1<<3 | wire.Fixed64:
			at = binary.LittleEndian.Uint64(b[s:])
		case 11<<3 | wire.Fixed64:
			observed = binary.LittleEndian.Uint64(b[s:])
		case 2<<3 | wire.Varint:
			severity, _ = wire.Uvarint(b, s)
		case 3<<3 | wire.Bytes:
			r.walk.Text(b[s:e], "severity text")
		case 5<<3 | wire.Bytes:
			err = r.walk.Value(b, s, e, 0, "body")
		case 6<<3 | wire.Bytes:
			err = r.walk.KeyValue(b, s, e, 0)
		case 7<<3 | wire.Varint, 8<<3 | wire.Fixed32:
		case 9<<3 | wire.Bytes:
			if e-s != 16 && e != s {
				r.walk.Refuse(wire.ReasonInvalidTraceID, "trace id", e-s)
			}
		case 10<<3 | wire.Bytes:
			if e-s != 8 && e != s {
				r.walk.Refuse(wire.ReasonInvalidSpanID, "span id", e-s)
			}
		case 12<<3 | wire.Bytes:
			r.walk.Text(b[s:e], "event name")
		default:
			if tag>>3 != 4 { // which is reserved
				err = r.walk.Unknown(i, what, tag, 12)
			}
		}
		if err != nil {
			return err
		}
		i = e
	}
	scope := len(r.scopes) - 1
	resource := r.scopes[scope].resource
	if size := end - off + int(r.scopes[scope].Size+r.resources[resource].Size) + wrapBytes; size > r.maxBytes {
		r.walk.Refuse(wire.ReasonRecordTooLarge, "record with its resource and scope", size)
	}
	if r.walk.Fault.Reason != wire.ReasonNone {
		r.reject(r.walk.Fault)
		return nil
	}
	if at == 0 {
		at = observed
	}
	return r.keep(record{
		at: signal.RangeOf(off, end), scope: uint32(scope), severity: signal.SeverityClassOf(uint64(uint32(severity))), time: int64(at),
	})
}

// keep adds a record to what was found.
func (r *Request) keep(k record) (err error) {
	if r.records, err = wire.Grow(&r.budget, r.records, recordBytes); err != nil {
		return err
	}
	r.records = append(r.records, k)
	count(&r.Logs, &k)
	return nil
}

// count adds a record to what is known of the last service.
func count(l *signal.Logs, k *record) {
	service := &l.Services[len(l.Services)-1]
	service.Bytes += int(k.at.Len)
	service.BySeverity[k.severity]++
	extend(&l.MinTime, &l.MaxTime, k.time)
}

// extend makes a time part of a range; one that is 0 or beyond the year 2262 is
// none.
func extend(oldest, newest *int64, t int64) {
	if t <= 0 {
		return
	}
	if *oldest == 0 || t < *oldest {
		*oldest = t
	}
	*newest = max(*newest, t)
}
