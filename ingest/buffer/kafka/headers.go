package kafka

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/tenant"
)

// Headers of our messages, see docs/kafka.md. Their values are text, so that
// Kafka's own tools show them.
const (
	headerFormat = "vedette.format" // decimal buffer.Format
	headerTenant = "vedette.tenant" // id of the tenant
	headerTime   = "vedette.time"   // "<min>,<max>" in Unix milliseconds; absent if there is no sample

	// Of messages that were forwarded out of another log:
	headerFrom     = "vedette.from"     // name of the sender
	headerPosition = "vedette.position" // "<session> <first>-<last> <part>/<parts>"
)

// Headers that name the tenant of messages that others have produced.
var foreignTenantHeaders = [...]string{tenant.Header, "tenant"}

// decodeHeaders fills the record's header from that of a topic's message. A
// message without our format is somebody else's: OTLP, as the OpenTelemetry
// Collector's Kafka exporter writes it with its encoding otlp_proto. What cannot
// be read is as if it were absent.
func decodeHeaders(topic string, headers []kafkago.Header, r *buffer.Record) (ours bool) {
	r.Tenant, r.Format, r.MinTime, r.MaxTime = tenant.Default, buffer.ForeignFormat(topic), 0, 0
	var foreign string
	var own []byte
	hasOwn := false
	for i := range headers {
		h := &headers[i]
		switch h.Key {
		case headerFormat:
			ours = true
			r.Format = buffer.FormatUnknown
			if n, err := strconv.ParseUint(string(h.Value), 10, 8); err == nil {
				r.Format = buffer.Format(n)
			}
		case headerTenant:
			own, hasOwn = h.Value, true
		case headerTime:
			r.MinTime, r.MaxTime = decodeTimes(h.Value)
		default:
			for _, name := range foreignTenantHeaders {
				if h.Key == name && foreign == "" && tenant.Validate(string(h.Value)) == nil {
					foreign = string(h.Value)
				}
			}
		}
	}
	switch {
	case ours && hasOwn && (len(own) == 0 || tenant.Validate(string(own)) == nil):
		r.Tenant = string(own)
	case !ours && foreign != "":
		r.Tenant = foreign
	}
	if !ours {
		r.MinTime, r.MaxTime = 0, 0
	}
	return ours
}

func decodeTimes(b []byte) (minTime, maxTime int64) {
	first, second, ok := bytes.Cut(b, []byte{','})
	if !ok {
		return 0, 0
	}
	minTime, err := strconv.ParseInt(string(first), 10, 64)
	if err != nil {
		return 0, 0
	}
	if maxTime, err = strconv.ParseInt(string(second), 10, 64); err != nil {
		return 0, 0
	}
	return minTime, maxTime
}

// appendHeaders appends the headers of a record as they lie in a record batch.
func appendHeaders(dst []byte, r *buffer.Record) []byte {
	var value [48]byte
	count := int64(2)
	hasTime := r.MinTime != 0 || r.MaxTime != 0
	if hasTime {
		count++
	}
	if r.From != nil {
		count += 2
	}
	dst = appendVarint(dst, count)
	dst = appendVarint(dst, int64(len(headerFormat)))
	dst = append(dst, headerFormat...)
	v := strconv.AppendUint(value[:0], uint64(r.Format), 10)
	dst = appendVarint(dst, int64(len(v)))
	dst = append(dst, v...)
	dst = appendVarint(dst, int64(len(headerTenant)))
	dst = append(dst, headerTenant...)
	dst = appendVarint(dst, int64(len(r.Tenant)))
	dst = append(dst, r.Tenant...)
	if hasTime {
		dst = appendVarint(dst, int64(len(headerTime)))
		dst = append(dst, headerTime...)
		v = strconv.AppendInt(value[:0], r.MinTime, 10)
		v = strconv.AppendInt(append(v, ','), r.MaxTime, 10)
		dst = appendVarint(dst, int64(len(v)))
		dst = append(dst, v...)
	}
	if r.From != nil {
		dst = appendHeader(dst, headerFrom, r.From.Sender)
		dst = appendHeader(dst, headerPosition, encodePosition(r.From))
	}
	return dst
}

func appendHeader(dst []byte, key, value string) []byte {
	dst = appendVarint(dst, int64(len(key)))
	dst = append(dst, key...)
	dst = appendVarint(dst, int64(len(value)))
	return append(dst, value...)
}

func encodePosition(p *buffer.Position) string {
	return fmt.Sprintf("%d %d-%d %d/%d", p.Session, p.First, p.Last, p.Part, p.Parts)
}

// decodePosition reads where a message was forwarded from; ok is false if it says
// nothing that makes sense.
func decodePosition(headers []kafkago.Header) (p buffer.Position, ok bool) {
	var from, position []byte
	for i := range headers {
		switch headers[i].Key {
		case headerFrom:
			from = headers[i].Value
		case headerPosition:
			position = headers[i].Value
		}
	}
	if from == nil || position == nil || len(position) > maxPositionBytes {
		return p, false
	}
	var numbers [5]uint64
	rest := string(position)
	for i, end := range [...]string{" ", "-", " ", "/", ""} {
		number, after, found := strings.Cut(rest, end)
		if end == "" {
			number, after, found = rest, "", true
		}
		var err error
		if numbers[i], err = strconv.ParseUint(number, 10, 64); err != nil || !found {
			return p, false
		}
		rest = after
	}
	p = buffer.Position{
		Sender: string(from), Session: numbers[0], First: int64(numbers[1]), Last: int64(numbers[2]), Part: int(numbers[3]), Parts: int(numbers[4]),
	}
	const maxParts = 1 << 30
	ok = numbers[1] <= numbers[2] && numbers[2] <= buffer.MaxPosition && numbers[3] < numbers[4] && numbers[4] <= maxParts
	return p, ok && buffer.CheckSender(p.Sender) == nil
}
