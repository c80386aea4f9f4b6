package span

import (
	"math"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/internal/signal"
)

// seen is a call that is known: held, or still open.
type seen struct {
	call    feature.Call
	place   place
	header  header
	headed  bool // header is valid
	open    bool
	settled bool
	added   int64 // the tick at which it came
}

func newSeen(c *feature.Call) *seen {
	s := &seen{call: *c, place: placeOf(c)}
	s.header, s.headed = parseHeader(c.Traceparent)
	return s
}

// end is when the call ended, or never.
func (s *seen) end() int64 {
	if s.open {
		return math.MaxInt64
	}
	return s.call.EndNanos
}

// begun is when the call had begun for certain.
func (s *seen) begun() int64 { return max(s.call.StartNanos, s.call.HadNanos) }

// start is when the call began, by its own end and the other, if that is known. What
// a server had read together has one time of arrival, that of the first; but no
// request arrives before the call that wrote it. A client's clock, where it does not
// know that, starts behind its system call, and the request was sent before it
// arrived.
func (s *seen) start(other *seen) int64 {
	if other == nil {
		return s.call.StartNanos
	}
	client, server := s, other
	if s.call.Server {
		client, server = other, s
	}
	asked, had := client.call.AskedNanos, server.call.HadNanos
	// A call to write that is made again may have been heard of before.
	known := asked != 0 && (had == 0 || asked <= had)
	switch {
	case s == server && known:
		return max(s.call.StartNanos, asked)
	case s == client && !known:
		return min(s.call.StartNanos, server.call.StartNanos)
	}
	return s.call.StartNanos
}

// surrounds reports whether c began while s was under way.
func (s *seen) surrounds(c *seen) bool {
	return s.call.StartNanos <= c.call.StartNanos && c.call.StartNanos <= s.end()
}

// linker applies the rules of the package comment to the calls that are known.
type linker struct {
	salt    string
	fleet   bool
	doubt   bool // calls were lost: who is first is not known
	byPlace map[place][]*seen
	byTrace map[signal.TraceID][]*seen
}

func newLinker(known []*seen) *linker {
	l := &linker{byPlace: make(map[place][]*seen, len(known)), byTrace: make(map[signal.TraceID][]*seen)}
	for _, s := range known {
		if s.open && l.ended(s) {
			continue
		}
		l.byPlace[s.place] = append(l.byPlace[s.place], s)
		if s.headed {
			l.byTrace[s.header.trace] = append(l.byTrace[s.header.trace], s)
		}
	}
	return l
}

// ended reports whether the call that was open is known to have ended since.
// Those that ended come first.
func (l *linker) ended(open *seen) bool {
	for _, s := range l.byPlace[open.place] {
		if !s.open && s.call.Server == open.call.Server && s.call.Process == open.call.Process {
			return true
		}
	}
	return false
}

// linked is what the rules say of a call.
type linked struct {
	trace      signal.TraceID
	id, parent signal.SpanID
	other      *seen // the other end of its connection; nil: not known
	doubted    bool  // it may have a parent that is left out, because calls were lost
}

func (l *linker) link(s *seen) linked {
	own := s.place.ids(l.salt)
	r := linked{trace: own.trace, id: own.client, other: l.otherEnd(s)}
	if s.call.Server {
		r.id = own.server
	}
	if s.headed {
		r.trace = s.header.trace
	}
	switch {
	case s.call.Server && (r.other != nil || l.fleet && !s.place.stays()):
		r.parent = own.client
	case !s.headed:
	case s.call.Server:
		r.parent = l.fromHeader(s, r.other)
	default:
		r.parent = l.clientParent(s, r.other)
	}
	r.doubted = l.doubt && s.headed && s.header.sampled && r.parent == (signal.SpanID{})
	return r
}

// otherEnd finds the other end of a call's connection, if it is certain.
func (l *linker) otherEnd(s *seen) *seen {
	var other *seen
	for _, o := range l.byPlace[s.place] {
		if o == s {
			continue
		}
		if other != nil || o.call.Server == s.call.Server || o.headed != s.headed || o.header != s.header {
			return nil
		}
		other = o
	}
	return other
}

// clientParent is the parent of a client span with a traceparent.
func (l *linker) clientParent(s, other *seen) signal.SpanID {
	var unchanged, inTrace []*seen // server spans of the process
	for _, o := range l.byTrace[s.header.trace] {
		if !o.call.Server || o.call.Process != s.call.Process {
			continue
		}
		inTrace = append(inTrace, o)
		if o.header.parent == s.header.parent {
			unchanged = append(unchanged, o)
		}
	}
	causes := unchanged
	if len(causes) == 0 && !s.header.sampled {
		causes = inTrace
	}
	if len(causes) == 0 {
		return l.fromHeader(s, other)
	}
	if len(causes) > 1 || !causes[0].surrounds(s) {
		return signal.SpanID{}
	}
	return causes[0].place.ids(l.salt).server
}

// fromHeader is the header's parent id, for the first call that has the header.
func (l *linker) fromHeader(s, other *seen) signal.SpanID {
	if l.doubt || !s.header.sampled {
		return signal.SpanID{}
	}
	start := s.begun()
	if other != nil {
		start = min(start, other.begun())
	}
	for _, o := range l.byTrace[s.header.trace] {
		if o != s && o != other && o.header.parent == s.header.parent && o.start(l.otherEnd(o)) <= start {
			return signal.SpanID{}
		}
	}
	return s.header.parent
}
