package trace

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// decideSpans bounds the spans of which the traces are decided about at once; the
// traces of a larger merge are taken in parts.
const decideSpans = 1 << 20

// decisionReach is for how many times Config.DecisionWait, of a minute at least,
// spans that come late follow what was decided about their trace.
const decisionReach = 10

// TraceSummary is what a Sampler sees of a trace: all spans of it that are
// stored, or about to be.
type TraceSummary struct {
	ID    signal.TraceID
	Start int64 // of the earliest span, unix nanoseconds
	End   int64 // of the latest span

	Spans  int
	Errors int // spans with status error

	// Root says that the trace's root span is there. Service, Name and Kind are the
	// root span's; without one, those of the earliest span.
	Root    bool
	Service string
	Name    string
	Kind    uint8
}

// Sampler decides which traces are kept once they are complete.
type Sampler interface {
	// Keep is asked once about a trace, when fresh blocks are merged and
	// Config.DecisionWait has passed since their last span. The traces of a merge
	// come in the order in which they began to be stored. A merge that a crash
	// interrupts asks again.
	Keep(t TraceSummary) bool
}

// decision is what tail sampling said about the traces of a merge.
type decision struct {
	drop  map[signal.TraceID]struct{}
	spans int // of them, in the blocks that are merged
}

func (d *decision) keep(id signal.TraceID) bool {
	_, dropped := d.drop[id]
	return !dropped
}

// decide asks the sampler about the traces in fresh blocks that are about to be
// merged, and notes in o what later merges must know. It returns nil if nothing
// is to be decided.
//
// A trace may have spans elsewhere: in blocks that were decided about, which then
// kept it, so the rest is kept as well; or in later blocks and the head, which
// count now, and follow the decision when they are merged. What arrived more than
// decisionReach waits before is not looked at, or every trace would be looked for
// in all blocks: what comes that late is decided about by itself.
func (t *tenant) decide(ctx context.Context, blocks []*blockFile, o *Origin) (*decision, error) {
	o.Decided = true
	spans := 0
	for _, b := range blocks {
		o.Decided = o.Decided && b.origin.Decided
		if !b.origin.Decided {
			spans += b.spans()
		}
	}
	wait := t.db.config.DecisionWait.Milliseconds()
	fresh := slices.ContainsFunc(blocks, func(b *blockFile) bool { return b.origin.Level == 0 })
	if t.db.sampler == nil || !fresh || o.MaxArrival > t.db.now().UnixMilli()-wait {
		return nil, nil
	}
	v := t.view(math.MinInt64, math.MaxInt64)
	defer v.Close()
	reach := o.MinArrival - decisionReach*max(wait, time.Minute.Milliseconds())
	d := &decider{ctx: ctx, t: t, blocks: blocks, before: t.droppedIDs(reach), out: decision{drop: make(map[signal.TraceID]struct{})}}
	for _, b := range v.blocks {
		switch {
		case slices.Contains(blocks, b), b.origin.MaxArrival < reach:
		case b.origin.Decided:
			d.decided = append(d.decided, b.rows)
		default:
			d.others = append(d.others, b.rows)
		}
	}
	for _, h := range v.heads {
		d.others = append(d.others, h)
	}
	d.parts = 1 + spans/t.db.decideSpans
	for d.part = range d.parts {
		if err := d.run(); err != nil {
			return nil, fmt.Errorf("decide about traces: %w", err)
		}
	}
	o.Decided = true
	o.Dropped = d.crossing
	return &d.out, nil
}

// decider is the state of one decide.
type decider struct {
	ctx     context.Context
	t       *tenant
	blocks  []*blockFile  // being merged
	decided []rows.Source // others, about which was decided
	others  []rows.Source
	before  map[signal.TraceID]struct{} // dropped by earlier merges

	part, parts int // traces are taken by their last byte
	cursor      rows.Cursor
	index       map[signal.TraceID]int
	traces      []candidate
	runs        []rows.Run

	out      decision
	crossing []byte // ids of dropped traces that others have spans of
}

// candidate is a trace as far as it has been looked at.
type candidate struct {
	TraceSummary
	first int64 // start of the span that Service, Name and Kind are of
	own   int   // spans in the blocks that are merged
	kept  bool  // a part of it was kept before
}

// run decides about the traces of one part.
func (d *decider) run() error {
	d.index, d.traces = make(map[signal.TraceID]int), d.traces[:0]
	for _, b := range d.blocks {
		for _, g := range b.rows.Groups() {
			if err := d.ctx.Err(); err != nil {
				return err
			}
			if err := d.group(g, b.origin.Decided); err != nil {
				return err
			}
		}
	}
	for i := range d.traces {
		if err := d.trace(&d.traces[i]); err != nil {
			return err
		}
	}
	return nil
}

// group looks at the traces of one row group.
func (d *decider) group(g *rows.Group, decided bool) error {
	if err := d.cursor.Seek(g); err != nil {
		return err
	}
	ids, err := d.cursor.TraceIDs()
	if err != nil {
		return err
	}
	ends, err := d.cursor.TraceRows()
	if err != nil {
		return err
	}
	for i, id := range ids {
		if int(id[len(id)-1])%d.parts != d.part {
			continue
		}
		at, ok := d.index[id]
		if !ok {
			at = len(d.traces)
			d.index[id] = at
			d.traces = append(d.traces, newCandidate(id))
		}
		c := &d.traces[at]
		c.kept = c.kept || decided
		if err := c.add(&d.cursor, int(ends[i]), int(ends[i+1])); err != nil {
			return err
		}
	}
	return nil
}

// trace decides about one trace.
func (d *decider) trace(c *candidate) error {
	crosses := false
	c.own = c.Spans
	for _, s := range d.decided {
		if c.kept {
			return nil
		}
		runs, err := s.FindTrace(c.ID, d.runs[:0])
		if err != nil {
			return err
		}
		d.runs, c.kept = runs, len(runs) > 0
	}
	if c.kept {
		return nil
	}
	for _, s := range d.others {
		runs, err := s.FindTrace(c.ID, d.runs[:0])
		if err != nil {
			return err
		}
		d.runs = runs
		for _, r := range runs {
			crosses = true
			if err := d.cursor.Seek(r.Group); err != nil {
				return err
			}
			if err := c.add(&d.cursor, r.First, r.End); err != nil {
				return err
			}
		}
	}
	if _, gone := d.before[c.ID]; !gone && d.t.db.sampler.Keep(c.TraceSummary) {
		return nil
	}
	d.out.drop[c.ID] = struct{}{}
	d.out.spans += c.own
	if crosses {
		d.crossing = append(d.crossing, c.ID[:]...)
	}
	return nil
}

func newCandidate(id signal.TraceID) candidate {
	return candidate{TraceSummary: TraceSummary{ID: id, Start: math.MaxInt64, End: math.MinInt64}, first: math.MaxInt64}
}

// add looks at rows of the trace in the cursor's group.
func (c *candidate) add(cur *rows.Cursor, first, end int) error {
	starts, err := cur.Starts()
	if err != nil {
		return err
	}
	durations, err := cur.Durations()
	if err != nil {
		return err
	}
	statuses, err := cur.Statuses()
	if err != nil {
		return err
	}
	parents, err := cur.ParentIDs()
	if err != nil {
		return err
	}
	shapes, err := cur.Shapes()
	if err != nil {
		return err
	}
	resources, err := cur.Resources()
	if err != nil {
		return err
	}
	sp := cur.Space()
	c.Spans += end - first
	for i := first; i < end; i++ {
		c.Start = min(c.Start, starts[i])
		c.End = max(c.End, addClamped(starts[i], max(durations[i], 0)))
		if statuses[i] == statusError {
			c.Errors++
		}
		root := parents[i].IsZero()
		if c.Root && !root || c.Root == root && c.Name != "" && starts[i] >= c.first {
			continue
		}
		shape := &sp.Shapes[shapes[i]]
		c.Root, c.first = root, starts[i]
		c.Service, c.Name, c.Kind = sp.Resources[resources[i]].Service, shape.Name, shape.Kind
	}
	return nil
}

// statusError is a span's status as signal.Spans has it.
const statusError = 2

// addClamped adds to a time; the sum ends at the last one.
func addClamped(t, d int64) int64 {
	if s := t + d; d <= 0 || s > t {
		return s
	}
	return math.MaxInt64
}
