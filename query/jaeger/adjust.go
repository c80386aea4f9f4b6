package jaeger

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/vedette-io/vedette/internal/otlpspans"
	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceapi"
)

// Attributes that become warnings.
const (
	attrTruncated = "vedette.truncated"
	attrClockSkew = "vedette.clock_skew"
	attrWarnings  = "@jaeger@warnings" // an array of texts, as Jaeger keeps them
)

func isWarning(key []byte) bool {
	switch string(key) {
	case attrTruncated, attrClockSkew, attrWarnings:
		return true
	}
	return false
}

// view is a trace as the page shows it: spans with ids and times that may have
// been adjusted, and with warnings that say so.
type view struct {
	*signal.Spans
	ids, parents []signal.SpanID
	shift        []time.Duration // of a span's times
	warnings     [][]string
}

// newView returns a trace with the warnings that its spans brought along, and
// unless raw is set, adjusted.
func newView(s *signal.Spans, raw bool, maxSkew time.Duration) *view {
	v := &view{
		Spans: s, ids: s.SpanIDs, parents: s.Parents,
		shift: make([]time.Duration, s.Len()), warnings: make([][]string, s.Len()),
	}
	for i := range s.Len() {
		v.collectWarnings(i)
	}
	if !raw {
		v.splitShared()
		v.correctSkew(maxSkew)
	}
	return v
}

func (v *view) warn(i int, format string, args ...any) {
	v.warnings[i] = append(v.warnings[i], fmt.Sprintf(format, args...))
}

// collectWarnings turns marks of a span into warnings.
func (v *view) collectWarnings(i int) {
	marked := false
	for _, a := range v.SpanAttrs(i) {
		key := v.Bytes(a.Key)
		if !isWarning(key) {
			continue
		}
		marked = marked || string(key) == attrClockSkew
		value := otlpspans.ValueOf(v.Spans, a)
		if a.Type != signal.AttrArray {
			v.warnings[i] = append(v.warnings[i], string(value.AppendText(nil)))
			continue
		}
		for e := range otlpspans.Elements(value.Bytes) {
			v.warnings[i] = append(v.warnings[i], string(e.AppendText(nil)))
		}
	}
	if v.Ends[i] < v.Starts[i] && !marked {
		v.warn(i, "span ends %s before it starts; its duration is shown as 0", time.Duration(v.Starts[i]-v.Ends[i]))
	}
}

// splitShared gives the server's half of a span that Zipkin clients and servers
// share an id of its own, below the client's.
func (v *view) splitShared() {
	clients := make(map[signal.SpanID]bool)
	for i, id := range v.ids {
		if v.Kinds[i] == traceapi.KindClient {
			clients[id] = true
		}
	}
	if len(clients) == 0 {
		return
	}
	taken := make(map[signal.SpanID]bool, v.Len())
	for _, id := range v.ids {
		taken[id] = true
	}
	servers := make(map[signal.SpanID]signal.SpanID) // shared id: the server's own
	ids, parents := make([]signal.SpanID, v.Len()), make([]signal.SpanID, v.Len())
	copy(ids, v.ids)
	copy(parents, v.parents)
	for i, id := range v.ids {
		if v.Kinds[i] != traceapi.KindServer || !clients[id] {
			continue
		}
		own, ok := servers[id]
		if !ok {
			own = freeID(id, taken)
			servers[id] = own
		}
		ids[i], parents[i] = own, id
	}
	if len(servers) == 0 {
		return
	}
	for i := range ids {
		if own, ok := servers[v.parents[i]]; ok && ids[i] == v.ids[i] {
			parents[i] = own // what the server did
		}
	}
	v.ids, v.parents = ids, parents
}

// freeID returns an id near to one that is taken.
func freeID(id signal.SpanID, taken map[signal.SpanID]bool) signal.SpanID {
	for n := binary.BigEndian.Uint64(id[:]); ; {
		n++
		var next signal.SpanID
		binary.BigEndian.PutUint64(next[:], n)
		if !next.IsZero() && !taken[next] {
			taken[next] = true
			return next
		}
	}
}

// node is a span on the way down from a root.
type node struct {
	span, parent int // parent is -1 at a root
	skew         time.Duration
	host         string // whose clock has that skew
}

// correctSkew moves spans that lie outside of their parents, if the clocks may
// be different: if they come from different hosts, or nobody knows.
func (v *view) correctSkew(most time.Duration) {
	place := make(map[signal.SpanID]int, v.Len())
	for i, id := range v.ids {
		if _, ok := place[id]; ok {
			v.warn(i, "duplicate span IDs; skipping clock skew adjustment")
			continue
		}
		place[id] = i
	}
	hosts := v.hosts()
	children := make([][]int, v.Len())
	var stack []node
	for i, id := range v.ids {
		if place[id] != i {
			continue
		}
		parent, ok := place[v.parents[i]]
		switch {
		case v.parents[i].IsZero():
			stack = append(stack, node{i, -1, 0, hosts[v.Scope[i]]})
		case !ok:
			v.warn(i, "invalid parent span IDs=%s; skipping clock skew adjustment", traceapi.SpanIDHex(v.parents[i]))
			stack = append(stack, node{i, -1, 0, hosts[v.Scope[i]]})
		default:
			children[parent] = append(children[parent], i)
		}
	}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if host := hosts[v.Scope[n.span]]; n.parent >= 0 && (host != n.host || host == "") {
			n.host, n.skew = host, v.skew(n.span, n.parent)
		}
		v.adjust(n.span, n.skew, most)
		for _, c := range children[n.span] {
			stack = append(stack, node{c, n.span, n.skew, n.host})
		}
	}
}

// hosts returns what every scope's spans come from, by scope; empty if its
// resource does not say.
func (v *view) hosts() []string {
	out := make([]string, len(v.Scopes))
	for i := range v.Scopes {
		attrs := traceapi.ResourceAttrs(v.Spans, v.Scopes[i].Resource)
		for _, key := range [...]string{"host.id", "host.ip", "host.name"} {
			if text, ok := traceapi.FindText(v.Spans, attrs, key); ok {
				out[i] = text
				break
			}
		}
	}
	return out
}

// skew returns by how much a span must be moved to lie within its parent, which
// has been adjusted already.
func (v *view) skew(child, parent int) time.Duration {
	parentStart := v.Starts[parent] + int64(v.shift[parent])
	parentEnd := parentStart + v.Duration(parent)
	start, end := v.Starts[child], v.Starts[child]+v.Duration(child)
	room := v.Duration(parent) - v.Duration(child)
	if room < 0 {
		// It lasted longer: it is asynchronous, or the parent gave up. All that
		// is sure is that it did not start first.
		return time.Duration(max(parentStart-start, 0))
	}
	if start >= parentStart && end <= parentEnd {
		return 0
	}
	return time.Duration(parentStart + room/2 - start) // the way there takes as long as the way back
}

func (v *view) adjust(i int, skew, most time.Duration) {
	switch {
	case skew == 0:
	case skew.Abs() <= most:
		v.shift[i] = skew
		v.warn(i, "This span's timestamps were adjusted by %v", skew)
	case most == 0:
		v.warn(i, "clock skew adjustment disabled; not applying calculated delta of %v", skew)
	default:
		v.warn(i, "max clock skew adjustment delta of %v exceeded; not applying calculated delta of %v", most, skew)
	}
}
