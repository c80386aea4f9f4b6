package log

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
)

// record is a line, or what belongs together, of a window.
type record struct {
	begin, end int    // in the window; records of two streams may overlap
	text       []byte // may alias the window
	time       int64  // unix nanoseconds; 0 if the format has none
	stream     uint8
	split      bool // a part of a line that is too long
}

// jsonKeys are the keys with a meaning.
type jsonKeys map[string]jsonRole

type jsonRole uint8

const (
	roleTime jsonRole = iota + 1
	roleSeverity
	roleBody
	roleTraceID
	roleSpanID
)

// newJSONKeys returns nil if JSON is not wanted.
func newJSONKeys(c *JSON) jsonKeys {
	if !c.Enabled {
		return nil
	}
	keys := jsonKeys{}
	for _, v := range []struct {
		role     jsonRole
		own, std []string
	}{
		{roleTime, c.Timestamp, []string{"time", "timestamp", "ts", "@timestamp"}},
		{roleSeverity, c.Severity, []string{"level", "severity", "lvl", "log.level"}},
		{roleBody, c.Body, []string{"msg", "message", "log"}},
		{roleTraceID, c.TraceID, []string{"trace_id", "traceId", "trace.id"}},
		{roleSpanID, c.SpanID, []string{"span_id", "spanId", "span.id"}},
	} {
		if len(v.own) == 0 {
			v.own = v.std
		}
		for _, k := range v.own {
			if keys[k] == 0 {
				keys[k] = v.role
			}
		}
	}
	return keys
}

// encoder makes LogRecord messages.
type encoder struct {
	charset charset
	json    jsonKeys // nil if text is not looked into
	metrics *metrics

	fields []byte // of the record at hand
	attrs  []byte // fields attributes of it
}

// append appends the field log_records of a ScopeLogs message.
func (e *encoder) append(dst []byte, r *record, observed int64) []byte {
	text, replaced := e.charset.text(r.text)
	if replaced {
		e.metrics.replaced.Inc()
	}
	e.fields, e.attrs = e.fields[:0], e.attrs[:0]
	at, body := r.time, text
	if e.json != nil && !r.split {
		if t, b, ok := e.object(text); !ok {
			e.metrics.unparsed.WithLabelValues("json").Inc()
		} else {
			if t != 0 {
				at = t
			}
			body = b
		}
	}
	if r.stream != streamNone {
		e.attr("log.iostream", streamName(r.stream))
	}
	if r.split {
		e.metrics.split.Inc()
		e.attr("vedette.truncated", "part of a longer line")
	}
	n := len(e.fields) + len(e.attrs) + 9 + messageBytes(messageBytes(len(body)))
	if at != 0 {
		n += 9
	}
	dst = appendHead(dst, 2, n)
	if at != 0 {
		dst = appendFixed64(append(dst, recordTime<<3|asFixed64), uint64(at))
	}
	dst = appendFixed64(append(dst, recordObserved<<3|asFixed64), uint64(observed))
	dst = append(dst, e.fields...)
	dst = appendMessage(appendHead(dst, recordBody, messageBytes(len(body))), valueString, body)
	return append(dst, e.attrs...)
}

// attr adds an attribute with a text.
func (e *encoder) attr(key, value string) {
	n := messageBytes(len(value))
	e.attrs = appendHead(e.attrs, recordAttr, messageBytes(len(key))+messageBytes(n))
	e.attrs = appendMessage(e.attrs, 1, key)
	e.attrs = appendMessage(appendHead(e.attrs, 2, n), valueString, value)
}

// object reads a JSON object; ok is false if text is none. Without a key for the
// body, that is the text itself.
func (e *encoder) object(text []byte) (at int64, body []byte, ok bool) {
	if trimmed := bytes.TrimLeft(text, " \t"); len(trimmed) == 0 || trimmed[0] != '{' || !json.Valid(text) {
		return 0, nil, false
	}
	r := jsonReader{b: text}
	for key, value := range r.members() {
		used := true
		switch e.json[string(key)] {
		case roleTime:
			at, used = timeOf(value)
		case roleSeverity:
			used = e.severity(value)
		case roleBody:
			if used = body == nil && value[0] == '"'; used {
				body = unquote(value)
			}
		case roleTraceID:
			used = e.id(recordTraceID, 16, value)
		case roleSpanID:
			used = e.id(recordSpanID, 8, value)
		default:
			used = false
		}
		if !used {
			e.attrs = appendMessage(e.attrs, recordAttr, appendKeyValue(nil, key, appendJSONValue(nil, value, 0)))
		}
	}
	if body == nil {
		body = text
	}
	return at, bytes.ToValidUTF8(body, replacement), true
}

// id adds an id that is written in hex, of so many bytes.
func (e *encoder) id(field, size int, value []byte) bool {
	text := unquote(value)
	if len(text) != 2*size {
		return false
	}
	id := make([]byte, size)
	if _, err := hex.Decode(id, text); err != nil {
		return false
	}
	e.fields = appendMessage(e.fields, field, id)
	return true
}

// severity adds a severity by its name, or by its number as pino and bunyan have
// it.
func (e *encoder) severity(value []byte) bool {
	text := string(unquote(value))
	number := severityOf(text)
	if number == 0 {
		return false
	}
	e.fields = append(e.fields, recordSeverity<<3|asVarint, number)
	e.fields = appendMessage(e.fields, recordText, text)
	return true
}

// severityOf returns OTLP's number of a severity, or 0.
func severityOf(text string) byte {
	switch strings.ToLower(text) {
	case "trace", "10":
		return 1
	case "debug", "20":
		return 5
	case "info", "information", "informational", "30":
		return 9
	case "notice":
		return 10
	case "warn", "warning", "40":
		return 13
	case "error", "err", "50":
		return 17
	case "critical", "crit", "dpanic":
		return 18
	case "alert", "panic":
		return 19
	case "fatal", "emerg", "emergency", "60":
		return 21
	}
	return 0
}

// timeOf reads a time in one of the forms that programs write: RFC 3339, the same
// with a space and without a zone, which is then this machine's, or a number of
// seconds, milliseconds, microseconds or nanoseconds since 1970, by its size.
func timeOf(value []byte) (nanos int64, ok bool) {
	text := string(unquote(value))
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		unit := int64(1)
		for _, u := range []int64{1e9, 1e6, 1e3} {
			if n > 0 && n < math.MaxInt64/u && n*u < maxTime {
				unit = u
				break
			}
		}
		return n * unit, n > 0
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		for f > 0 && f < maxTime/1e3 {
			f *= 1e3
		}
		if f > 0 && f < math.MaxInt64 {
			return int64(math.Round(f/1e3)) * 1e3, true // a float64 has no more than microseconds today
		}
		return 0, false
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02 15:04:05,999999999", "2006-01-02T15:04:05.999999999Z0700"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t.UnixNano(), t.UnixNano() > 0
		}
	}
	return 0, false
}

// maxTime is a time far ahead, in the year 2128: what is larger in one unit is meant in
// a smaller one.
const maxTime = 5e18
