package jaeger

import (
	"fmt"
	"math"
	"strconv"

	"github.com/vedette-io/vedette/ingest/wire"
)

// FormatError says why a batch was refused.
type FormatError struct {
	Span   int // its index; -1 if the fault is not a span's
	Detail string
}

func (e *FormatError) Error() string {
	if e.Span < 0 {
		return e.Detail
	}
	return "spans[" + strconv.Itoa(e.Span) + "]: " + e.Detail
}

// Unwrap makes the door answer as it does to every request that is not
// understood.
func (e *FormatError) Unwrap() error { return &wire.SyntaxError{Message: "Batch", Detail: e.Detail} }

// tagType is the type of a tag's value.
type tagType uint8

const (
	typeString tagType = iota
	typeBool
	typeInt
	typeDouble
	typeBinary
)

// tag is a key with a value: text or bytes, or the bits of a number.
type tag struct {
	key  []byte
	text []byte
	bits uint64
	kind tagType
}

func (t *tag) isText(text string) bool { return t.kind == typeString && string(t.text) == text }

// number returns a whole number, also one that is written as text.
func (t *tag) number() (n int64, ok bool) {
	switch t.kind {
	case typeInt:
		return int64(t.bits), true
	case typeString:
		const longest = 20
		if len(t.text) <= longest {
			n, err := strconv.ParseInt(string(t.text), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// log is what happened at a time; its fields are tags of the span at hand.
type log struct {
	nanos      int64
	begin, end int
}

type reference struct {
	traceHigh, traceLow, id uint64
	follows                 bool // else it is a child
}

// span is a span as the formats have it.
type span struct {
	traceHigh, traceLow, id uint64
	parent                  uint64 // as it was said; see parentID
	flags                   uint32
	name                    []byte
	start, end              int64 // nanoseconds
	references              []reference
	tags                    []tag // of the span itself, up to own; those of logs follow
	own                     int
	logs                    []log
	warnings                [][]byte
}

func (s *span) reset() {
	clear(s.tags)
	clear(s.warnings)
	*s = span{references: s.references[:0], tags: s.tags[:0], logs: s.logs[:0], warnings: s.warnings[:0]}
}

// parentID returns the span that s belongs to: the one that is named, the first
// reference to a parent within the trace, or the first that is followed.
func (s *span) parentID() uint64 {
	if s.parent != 0 {
		return s.parent
	}
	followed := uint64(0)
	for i := range s.references {
		r := &s.references[i]
		if r.traceHigh != s.traceHigh || r.traceLow != s.traceLow {
			continue
		}
		if !r.follows {
			return r.id
		}
		if followed == 0 {
			followed = r.id
		}
	}
	return followed
}

// setTimes takes a start in seconds and nanoseconds and a duration.
func (s *span) setTimes(startSeconds, startNanos, seconds, nanos int64) error {
	const maxSeconds = math.MaxInt64/1_000_000_000 - 2
	if startSeconds < 0 || startSeconds > maxSeconds || startNanos < 0 || startNanos >= 1e9 {
		return fmt.Errorf("startTime: got %d s, %d ns, want a time from 1970 to 2262", startSeconds, startNanos)
	}
	if seconds < -maxSeconds || seconds > maxSeconds || nanos <= -1e9 || nanos >= 1e9 {
		return fmt.Errorf("duration: got %d s, %d ns, want less than 292 years", seconds, nanos)
	}
	s.start = startSeconds*1e9 + startNanos
	if end, limit := startSeconds+seconds, int64(maxSeconds); end > limit {
		return fmt.Errorf("duration: got %d s after %d s, want an end before 2262", seconds, startSeconds)
	}
	s.end = max((startSeconds+seconds)*1e9+startNanos+nanos, 0)
	return nil
}

func (s *span) addTag(t tag) error {
	if len(s.tags) == maxTags {
		return fmt.Errorf("tags: got more than %d", maxTags)
	}
	s.tags = append(s.tags, t)
	return nil
}

func (s *span) addLog(nanos int64, begin int) error {
	if len(s.logs) == maxLogs {
		return fmt.Errorf("logs: got more than %d", maxLogs)
	}
	s.logs = append(s.logs, log{nanos, begin, len(s.tags)})
	return nil
}

func (s *span) addReference(r reference) error {
	if len(s.references) == maxReferences {
		return fmt.Errorf("references: got more than %d", maxReferences)
	}
	s.references = append(s.references, r)
	return nil
}

// process is what made spans.
type process struct {
	key     []byte // its bytes, which tell it from others
	service []byte
	tags    []tag
}

func (p *process) reset() {
	clear(p.tags)
	*p = process{tags: p.tags[:0]}
}

func (p *process) addTag(t tag) error {
	if len(p.tags) == maxTags {
		return fmt.Errorf("process: tags: got more than %d", maxTags)
	}
	p.tags = append(p.tags, t)
	return nil
}
