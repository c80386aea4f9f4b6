package stream

import (
	"net/netip"
	"sort"
	"strings"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
	"github.com/vedette-io/vedette/ebpf/protocol"
)

// maxMethods bounds the RPC methods told apart; more are _OTHER.
const maxMethods = 512

// maxRemotes bounds the servers told of a process that asks: a crawler's would leave
// no room for the series of others.
const maxRemotes = 256

// other stands for what is not known, or of too many values.
const other = "_OTHER"

// what is the part of a series that does not say whose it is.
type what struct {
	kind                       protocol.Kind
	grpc, server, tls, failed  bool
	port                       uint16
	address                    netip.Addr // the server's, for a client
	crowded                    bool       // one of the servers beyond maxRemotes
	operation, service, status string
}

// seriesKey tells what is counted for one process.
type seriesKey struct {
	process identity.Key
	what
}

// series tells one exported series from another.
type series struct {
	feature.Who
	what
}

// totals is what a series has counted.
type totals struct {
	durationNanos               int64
	requestBytes, responseBytes int64
	failures                    uint64
	durations                   []uint64 // by bound, and one more
	requestSizes, responseSizes [12]uint64
}

func addTotals(sum, more *totals) {
	sum.durationNanos += more.durationNanos
	sum.requestBytes += more.requestBytes
	sum.responseBytes += more.responseBytes
	sum.failures += more.failures
	if sum.durations == nil {
		sum.durations = make([]uint64, len(more.durations))
	}
	for i, n := range more.durations {
		sum.durations[i] += n
	}
	for i := range more.requestSizes {
		sum.requestSizes[i] += more.requestSizes[i]
		sum.responseSizes[i] += more.responseSizes[i]
	}
}

// sizeBucket is that of feature.SizeBounds.
func sizeBucket(n int64) int {
	i := 0
	for bound := int64(64); n > bound && i < 11; bound *= 4 {
		i++
	}
	return i
}

// recordLocked counts a request of the current connection.
func (t *Table) recordLocked(r *protocol.Request) {
	c := t.current
	v := t.seriesLocked(c, r)
	if v == nil {
		t.lost[lostSeries]++
	} else {
		nanos := max(r.EndNanos-r.StartNanos, 0)
		v.durationNanos += nanos
		v.durations[sort.SearchFloat64s(t.options.Bounds, float64(nanos)/1e9)]++
		v.requestBytes += r.RequestBytes
		v.responseBytes += r.ResponseBytes
		if r.Failed {
			v.failures++
		}
		v.requestSizes[sizeBucket(r.RequestBytes)]++
		v.responseSizes[sizeBucket(r.ResponseBytes)]++
	}
	if !c.Local.IsValid() {
		t.lost[lostSocket]++
	}
	if t.wantedLocked(c, r) {
		t.sendCallLocked(c, r)
	}
}

// seriesLocked finds the totals that r counts in; nil: there is no room.
func (t *Table) seriesLocked(c *conn, r *protocol.Request) *totals {
	w := what{
		kind: r.Kind, grpc: r.GRPC, server: r.Server, tls: c.TLS,
		operation: r.Operation, status: r.Status,
	}
	if isDatabase(r.Kind) || r.Kind == protocol.Kafka {
		w.failed = r.Failed
	}
	if r.GRPC {
		w.service = r.Target
	}
	if r.Server {
		w.port = c.Local.Port()
	} else {
		w.port, w.address = c.Peer.Port(), c.Peer.Addr()
	}
	if c.last != nil && c.lastKey.what == w {
		return c.last
	}
	k := seriesKey{process: c.Process, what: w}
	v := t.series[k]
	if v == nil {
		if v = t.newSeriesLocked(&k); v == nil {
			return nil
		}
	}
	// The key's strings are those of the request, which does not outlive the call.
	w.operation, w.service, w.status = keep(c.lastKey.operation, w.operation), keep(c.lastKey.service, w.service), keep(c.lastKey.status, w.status)
	c.last, c.lastKey = v, seriesKey{process: c.Process, what: w}
	return v
}

// keep gives a string that outlives s: had, if it is the same.
func keep(had, s string) string {
	if had == s {
		return had
	}
	return strings.Clone(s)
}

// maxLabel bounds what a label has of what somebody sent.
const maxLabel = 200

// label gives a copy of s that may be a label's value, which is UTF-8: s may be
// whatever a client sent.
func label(s string) string {
	return strings.ToValidUTF8(strings.Clone(s[:min(len(s), maxLabel)]), "\uFFFD")
}

// newSeriesLocked makes the series of k, or finds the one that stands in for it.
func (t *Table) newSeriesLocked(k *seriesKey) *totals {
	k.operation, k.service, k.status = label(k.operation), label(k.service), label(k.status)
	if k.grpc {
		name := k.service + "/" + k.operation
		if _, known := t.methods[name]; !known {
			if len(t.methods) >= maxMethods {
				k.service, k.operation = "", other
			} else {
				t.methods[name] = struct{}{}
			}
		}
	}
	if !k.server && k.address.IsValid() && !t.tellsLocked(k.process, netip.AddrPortFrom(k.address, k.port)) {
		k.address, k.port, k.crowded = netip.Addr{}, 0, true
	}
	if v := t.series[*k]; v != nil {
		return v
	}
	if len(t.series) >= t.env.MaxSeries {
		return nil
	}
	v := &totals{durations: make([]uint64, len(t.options.Bounds)+1)}
	t.series[*k] = v
	return v
}

// tellsLocked says whether a server is one of the first that a process has asked.
func (t *Table) tellsLocked(k identity.Key, server netip.AddrPort) bool {
	known := t.remotes[k]
	if _, ok := known[server]; ok {
		return true
	}
	if len(known) >= maxRemotes {
		return false
	}
	if known == nil {
		known = make(map[netip.AddrPort]struct{})
		t.remotes[k] = known
	}
	known[server] = struct{}{}
	return true
}

func (t *Table) entriesLocked(visit func(*feature.Entry[seriesKey, series, totals])) error {
	for k, v := range t.series {
		visit(&feature.Entry[seriesKey, series, totals]{
			Key: k, Process: k.process,
			Series: series{Who: t.env.Whose(k.process, ""), what: k.what}, Counted: v,
		})
	}
	return nil
}

func isDatabase(k protocol.Kind) bool {
	return k == protocol.PostgreSQL || k == protocol.MySQL || k == protocol.Redis
}
