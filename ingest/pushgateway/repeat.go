package pushgateway

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/exposition"
)

// writeTimeout bounds how long one request of our own may take.
const writeTimeout = 30 * time.Second

// Run writes the last values of all groups, at once and then each interval,
// until ctx ends.
func (g *Gateway) Run(ctx context.Context) error {
	ticker := time.NewTicker(g.cfg.Interval)
	defer ticker.Stop()
	for {
		g.repeat(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// repeat writes all groups once; one that is just being changed is left out.
func (g *Gateway) repeat(ctx context.Context) {
	for _, t := range g.withGroups() {
		if ctx.Err() != nil {
			return
		}
		if err := g.repeatTenant(ctx, t); err != nil && ctx.Err() == nil {
			g.metrics.repeatErrors.Inc()
			g.log.Warn("repeat pushed metrics", "tenant", t, "err", err)
		}
	}
	g.metrics.repeats.Inc()
}

// withGroups returns the tenants that have groups, and forgets the others, unless
// they may use a timestamp again.
func (g *Gateway) withGroups() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now().UnixMilli()
	maps.DeleteFunc(g.tenants, func(_ string, x *index) bool { return len(x.groups) == 0 && x.last < now })
	return slices.Sorted(maps.Keys(g.tenants))
}

// repeatTenant writes the groups of a tenant, several in one request.
func (g *Gateway) repeatTenant(ctx context.Context, tenantID string) error {
	groups, states, told, at := g.quiet(tenantID)
	var r exposition.Requests
	var refused error
	for i := range groups {
		for _, f := range states[i].sorted() {
			if err := addFamily(&r, f, at, !told[i]); err != nil {
				return err
			}
		}
		for _, p := range r.Ready() {
			if err := g.writeAgain(ctx, tenantID, p, &refused); err != nil {
				return err
			}
		}
	}
	for _, p := range r.Payloads() {
		if err := g.writeAgain(ctx, tenantID, p, &refused); err != nil {
			return err
		}
	}
	if refused != nil {
		return refused
	}
	g.mu.Lock()
	for _, gr := range groups {
		gr.told = true
	}
	g.mu.Unlock()
	return nil
}

// quiet returns the groups of a tenant that are not being changed, with their
// states, and a time for them. Changes that begin later have a later time.
func (g *Gateway) quiet(tenantID string) (groups []*group, states []*state, told []bool, at int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	x := g.indexLocked(tenantID)
	for _, gr := range x.groups {
		if !gr.busy && gr.state != nil {
			groups = append(groups, gr)
		}
	}
	slices.SortFunc(groups, func(a, b *group) int { return strings.Compare(a.id, b.id) })
	for _, gr := range groups {
		states, told = append(states, gr.state), append(told, gr.told)
	}
	return groups, states, told, x.nextLocked()
}

// writeAgain writes one request of a repeat. Of what the store refuses, the
// first error is kept and the rest goes on.
func (g *Gateway) writeAgain(ctx context.Context, tenantID string, payload []byte, refused *error) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	w, err := g.entry.Write(ctx, tenantID, buffer.FormatRemoteWriteV1, payload)
	g.metrics.repeated.Add(float64(w.Samples + w.Histograms))
	var partial *door.PartialError
	if errors.As(err, &partial) {
		if *refused == nil {
			*refused = err
		}
		return nil
	}
	return err
}
