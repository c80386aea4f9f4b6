package traceapi

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceql"
)

// Edge says how often one service called another one.
type Edge struct {
	Parent, Child string
	Calls, Errors int64
}

// Dependencies gives the edges of the service graph. Times are unix
// nanoseconds, both inclusive.
type Dependencies interface {
	Edges(ctx context.Context, tenant string, start, end int64) ([]Edge, error)
}

// NoDependencies is a service graph without edges.
type NoDependencies struct{}

// Edges returns none.
func (NoDependencies) Edges(context.Context, string, int64, int64) ([]Edge, error) { return nil, nil }

// SampledDependencies computes the service graph from the newest traces. It
// serves where nothing counts calls as spans come in: its counts are those of
// the traces it read, not of all.
type SampledDependencies struct {
	Querier   traceql.Querier
	MaxTraces int // 200 if 0
	// Admit is as in Options.
	Admit func(ctx context.Context, query string) (context.Context, func(), error)
}

// Edges reads traces between both times.
func (d SampledDependencies) Edges(ctx context.Context, tenant string, start, end int64) ([]Edge, error) {
	limit := d.MaxTraces
	if limit == 0 {
		limit = 200
	}
	if d.Admit != nil {
		admitted, done, err := d.Admit(ctx, "edges of the service graph")
		if err != nil {
			return nil, fmt.Errorf("wait for a turn: %w", err)
		}
		defer done()
		ctx = admitted
	}
	found, err := d.Querier.Search(ctx, traceql.SearchRequest{
		Tenant: tenant, Query: "{}", Start: start, End: end, Limit: limit, SpansPerSpanset: 1,
	})
	if err != nil {
		return nil, err
	}
	counts := make(edgeCounts)
	var spans signal.Spans
	for i := range found.Traces {
		t := &found.Traces[i]
		if len(t.Services) == 1 && t.Spans == 1 {
			continue // calls nobody that left a span
		}
		spans.Reset()
		if _, err := d.Querier.Trace(ctx, traceql.TraceRequest{Tenant: tenant, ID: t.ID, Start: t.Start, End: t.Start + t.Duration}, &spans); err != nil {
			return nil, err
		}
		counts.add(&spans)
	}
	return counts.edges(), nil
}

type edgeKey struct{ parent, child string }

type edgeCounts map[edgeKey]*Edge

// Kinds of spans, as OTLP numbers them.
const (
	KindUnspecified = iota
	KindInternal
	KindServer
	KindClient
	KindProducer
	KindConsumer
)

// StatusError is the status of a span that failed.
const StatusError = 2

// add counts the calls between services in one trace.
func (c edgeCounts) add(s *signal.Spans) {
	services := Services(s)
	type place struct {
		id     signal.SpanID
		server bool
	}
	// A client and a server that share an id, as Zipkin's do, are two places.
	at := make(map[place]int, s.Len())
	for i := range s.Len() {
		at[place{s.SpanIDs[i], s.Kinds[i] == KindServer}] = i
	}
	called := make(map[int]bool) // client spans whose server left a span
	for i := range s.Len() {
		parent, ok := -1, false
		if s.Kinds[i] == KindServer { // the client half of a shared span
			parent, ok = at[place{s.SpanIDs[i], false}]
			ok = ok && s.Kinds[parent] == KindClient
		}
		if !ok && !s.Parents[i].IsZero() {
			if parent, ok = at[place{s.Parents[i], true}]; !ok {
				parent, ok = at[place{s.Parents[i], false}]
			}
		}
		if !ok {
			continue
		}
		called[parent] = true
		if from, to := services[s.Scope[parent]], services[s.Scope[i]]; from != to {
			c.count(from, to, s.Statuses[i] == StatusError)
		}
	}
	for i := range s.Len() { // calls of what leaves no spans: databases, foreign services
		if called[i] || s.Kinds[i] != KindClient && s.Kinds[i] != KindProducer {
			continue
		}
		if peer := peerOf(s, i); peer != "" && peer != services[s.Scope[i]] {
			c.count(services[s.Scope[i]], peer, s.Statuses[i] == StatusError)
		}
	}
}

func (c edgeCounts) count(parent, child string, failed bool) {
	if parent == "" || child == "" {
		return
	}
	e := c.of(parent, child)
	e.Calls++
	if failed {
		e.Errors++
	}
}

// of returns the edge between two services.
func (c edgeCounts) of(parent, child string) *Edge {
	e := c[edgeKey{parent, child}]
	if e == nil {
		e = &Edge{Parent: parent, Child: child}
		c[edgeKey{parent, child}] = e
	}
	return e
}

// edges returns what was counted, sorted.
func (c edgeCounts) edges() []Edge {
	out := make([]Edge, 0, len(c))
	for _, e := range c {
		out = append(out, *e)
	}
	slices.SortFunc(out, func(a, b Edge) int {
		return cmp.Or(cmp.Compare(a.Parent, b.Parent), cmp.Compare(a.Child, b.Child))
	})
	return out
}

// peerKeys name the service at the other end of a call, the best first.
var peerKeys = [...]string{"service.peer.name", "peer.service", "db.system.name", "db.system", "messaging.system"}

func peerOf(s *signal.Spans, i int) string {
	for _, key := range peerKeys {
		if v, ok := FindText(s, s.SpanAttrs(i), key); ok {
			return v
		}
	}
	return ""
}
