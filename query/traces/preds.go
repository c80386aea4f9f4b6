package traces

import (
	"slices"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceql"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// Costs, by what a row costs to evaluate.
const (
	costNothing = iota
	costShape
	costResource
	costStatus
	costDuration
	costColumn
	costRead
)

type constPred bool

func (p constPred) prune(*worker) verdict {
	if p {
		return all
	}
	return none
}

func (p constPred) eval(w *worker, dst bitmap) error {
	if p {
		dst.fill(w.info.Rows)
	}
	return nil
}

func (p constPred) cost() int { return costNothing }

// evaluate adds the rows that match to dst, as prune or eval says.
func (w *worker) evaluate(p pred, dst bitmap) error {
	switch p.prune(w) {
	case none:
		return nil
	case all:
		dst.fill(w.info.Rows)
		return nil
	}
	return p.eval(w, dst)
}

type andPred struct{ parts []pred }

func newAnd(parts ...pred) pred {
	p := &andPred{}
	for _, x := range parts {
		if a, ok := x.(*andPred); ok {
			p.parts = append(p.parts, a.parts...)
		} else {
			p.parts = append(p.parts, x)
		}
	}
	slices.SortStableFunc(p.parts, func(a, b pred) int { return a.cost() - b.cost() })
	return p
}

func (p *andPred) prune(w *worker) verdict {
	least := all
	for _, x := range p.parts {
		if least = min(least, x.prune(w)); least == none {
			return none
		}
	}
	return least
}

func (p *andPred) eval(w *worker, dst bitmap) error {
	var rest bitmap
	for _, x := range p.parts {
		switch x.prune(w) {
		case none:
			return nil
		case all:
			continue
		}
		b := w.bitmap()
		if err := x.eval(w, b); err != nil {
			return err
		}
		if rest == nil {
			rest = b
		} else {
			rest.and(b)
			w.release(b)
		}
		if rest.empty() {
			w.release(rest)
			return nil
		}
	}
	if rest == nil {
		dst.fill(w.info.Rows)
		return nil
	}
	dst.or(rest)
	w.release(rest)
	return nil
}

func (p *andPred) cost() int { return p.parts[len(p.parts)-1].cost() }

type orPred struct{ parts []pred }

func newOr(parts ...pred) pred {
	p := &orPred{}
	for _, x := range parts {
		if o, ok := x.(*orPred); ok {
			p.parts = append(p.parts, o.parts...)
		} else {
			p.parts = append(p.parts, x)
		}
	}
	slices.SortStableFunc(p.parts, func(a, b pred) int { return a.cost() - b.cost() })
	return p
}

func (p *orPred) prune(w *worker) verdict {
	most := none
	for _, x := range p.parts {
		if most = max(most, x.prune(w)); most == all {
			return all
		}
	}
	return most
}

func (p *orPred) eval(w *worker, dst bitmap) error {
	for _, x := range p.parts {
		if err := w.evaluate(x, dst); err != nil {
			return err
		}
	}
	return nil
}

func (p *orPred) cost() int { return p.parts[len(p.parts)-1].cost() }

type notPred struct{ part pred }

func (p *notPred) prune(w *worker) verdict { return all - p.part.prune(w) }

func (p *notPred) eval(w *worker, dst bitmap) error {
	b := w.bitmap()
	defer w.release(b)
	if err := p.part.eval(w, b); err != nil {
		return err
	}
	b.not(w.info.Rows)
	dst.or(b)
	return nil
}

func (p *notPred) cost() int { return p.part.cost() }

// setBy adds the rows whose number, say of a resource, has 1 in table.
func setBy(dst bitmap, numbers []uint32, table []uint8) {
	for i := range dst {
		part := numbers[i*64 : min(i*64+64, len(numbers))]
		word := uint64(0)
		for k, n := range part {
			word |= uint64(table[n]) << (k & 63)
		}
		dst[i] |= word
	}
}

// verdictOf sums up what is said of each member of a set.
func verdictOf(set []uint32, match func(uint32) bool) verdict {
	if set == nil {
		return some
	}
	hits := 0
	for _, n := range set {
		if match(n) {
			hits++
		}
	}
	switch hits {
	case 0:
		return none
	case len(set):
		return all
	}
	return some
}

// resourcePred holds for rows of some resources. Matches are decided for all
// resources at once: they are few.
type resourcePred struct{ table []uint8 }

func newResourcePred(w *worker, key string, m matcher) pred {
	p := &resourcePred{table: make([]uint8, len(w.space.sp.Resources))}
	for i := range p.table {
		v, ok := findAttribute(w.space.sp.Resources[i].Attrs, key)
		if m.isNil() {
			ok = (ok && v.t != signal.AttrEmpty) == (m.op == traceql.OpNotEqual)
		} else {
			ok = ok && m.raw(v)
		}
		if ok {
			p.table[i] = 1
		}
	}
	return p
}

// raw reports whether the comparison holds for a value.
func (m *matcher) raw(v rawValue) bool {
	if v.t == signal.AttrArray {
		return m.many(traceql.AppendArrayElements(nil, v.bytes))
	}
	return m.one(v.static())
}

func (p *resourcePred) prune(w *worker) verdict {
	return verdictOf(w.resourceSet(), func(r uint32) bool { return p.table[r] == 1 })
}

func (p *resourcePred) eval(w *worker, dst bitmap) error {
	numbers, err := w.cur.Resources()
	if err != nil {
		return err
	}
	setBy(dst, numbers, p.table)
	return nil
}

func (p *resourcePred) cost() int { return costResource }

// shapePred holds for rows of some shapes, each of which is looked at when a
// group first has it.
type shapePred struct {
	memo  []uint8 // 1 matches, 0 does not or is not known
	known []bool
	match func(*worker, *rows.Shape) bool
}

func (p *shapePred) decide(w *worker, shape uint32) bool {
	if p.known == nil {
		p.known = make([]bool, len(p.memo))
	}
	if !p.known[shape] {
		p.known[shape] = true
		if s := &w.space.sp.Shapes[shape]; s.Level == rows.LevelSpan && p.match(w, s) {
			p.memo[shape] = 1
		}
	}
	return p.memo[shape] == 1
}

func (p *shapePred) prune(w *worker) verdict {
	shapes := w.shapeSet()
	if shapes == nil {
		return some
	}
	hits, spans := 0, 0
	for _, s := range shapes {
		if w.space.sp.Shapes[s].Level != rows.LevelSpan {
			continue
		}
		spans++
		if p.decide(w, s) {
			hits++
		}
	}
	switch hits {
	case 0:
		return none
	case spans:
		return all
	}
	return some
}

func (p *shapePred) eval(w *worker, dst bitmap) error {
	shapes, err := w.cur.Shapes()
	if err != nil {
		return err
	}
	if w.shapeSet() == nil {
		for _, s := range shapes {
			p.decide(w, s)
		}
	}
	setBy(dst, shapes, p.memo)
	return nil
}

func (p *shapePred) cost() int { return costShape }

type statusPred struct{ table [256]uint8 }

func newStatusPred(m matcher) pred {
	p := &statusPred{}
	for i := range p.table {
		if m.one(traceql.Status(uint8(i))) {
			p.table[i] = 1
		}
	}
	return p
}

const statusError = 2

func (p *statusPred) prune(w *worker) verdict {
	errors, others := p.table[statusError] == 1, false
	for i, v := range p.table {
		others = others || i != statusError && v == 1
	}
	switch {
	case !others && (!errors || w.info.Errors == 0):
		return none
	case !others && w.info.Errors == w.info.Rows:
		return all
	}
	return some
}

func (p *statusPred) eval(w *worker, dst bitmap) error {
	statuses, err := w.cur.Statuses()
	if err != nil {
		return err
	}
	for i := range dst {
		word := uint64(0)
		for k, s := range statuses[i*64 : min(i*64+64, len(statuses))] {
			word |= uint64(p.table[s]) << (k & 63)
		}
		dst[i] |= word
	}
	return nil
}

func (p *statusPred) cost() int { return costStatus }

// durationPred holds for durations from lo to hi, or for the others.
type durationPred struct {
	lo, hi  int64
	outside bool
}

func newDurationPred(m matcher) pred {
	lo, hi, ok := m.ints()
	if !ok {
		return constPred(false)
	}
	outside := m.negative()
	if outside && !m.comparable(traceql.Duration(0)) {
		return constPred(false)
	}
	return &durationPred{lo: lo, hi: hi, outside: outside}
}

func (p *durationPred) prune(w *worker) verdict {
	least, most := max(w.info.MinDuration, 0), max(w.info.MaxDuration, 0)
	v := some
	switch {
	case most < p.lo || least > p.hi:
		v = none
	case least >= p.lo && most <= p.hi:
		v = all
	}
	if p.outside {
		v = all - v
	}
	return v
}

func (p *durationPred) eval(w *worker, dst bitmap) error {
	durations, err := w.cur.Durations()
	if err != nil {
		return err
	}
	if p.lo > p.hi {
		if p.outside {
			dst.fill(w.info.Rows)
		}
		return nil
	}
	span, flip := uint64(p.hi)-uint64(p.lo), uint64(0)
	if p.outside {
		flip = 1
	}
	for i := range dst {
		word := uint64(0)
		for k, d := range durations[i*64 : min(i*64+64, len(durations))] {
			in := uint64(0)
			if uint64(max(d, 0))-uint64(p.lo) <= span {
				in = 1
			}
			word |= (in ^ flip) << (k & 63)
		}
		dst[i] |= word
	}
	return nil
}

func (p *durationPred) cost() int { return costDuration }

// readPred reads all values of a field and compares each.
type readPred struct {
	attribute traceql.Attribute
	m         matcher
}

func (p *readPred) prune(w *worker) verdict {
	switch i := p.attribute.Intrinsic; {
	case (i == traceql.IntrinsicEventName || i == traceql.IntrinsicEventTimeSinceStart) && w.info.Events == 0,
		(i == traceql.IntrinsicLinkTraceID || i == traceql.IntrinsicLinkSpanID) && w.info.Links == 0:
		return none
	}
	return some
}

func (p *readPred) eval(w *worker, dst bitmap) error {
	f, err := w.read(p.attribute, false)
	if err != nil {
		return err
	}
	for row := range w.info.Rows {
		if many, several := f.several[row]; several {
			if p.m.many(many) {
				dst.set(row)
			}
		} else if p.m.one(f.one[row]) {
			dst.set(row)
		}
	}
	return nil
}

func (p *readPred) cost() int { return costRead }

// presentPred holds for rows that have an attribute, or have it not.
type presentPred struct {
	attribute traceql.Attribute
	want      bool
}

func (p *presentPred) prune(*worker) verdict { return some }

func (p *presentPred) eval(w *worker, dst bitmap) error {
	if p.attribute.Scope == traceql.ScopeSpan && p.attribute.Intrinsic == traceql.IntrinsicNone {
		has := w.bitmap()
		defer w.release(has)
		err := w.eachAttr(rows.LevelSpan, p.attribute.Name, func(row uint32, v rawValue) {
			if v.t != signal.AttrEmpty {
				has.set(int(row))
			}
		})
		if !p.want {
			has.not(w.info.Rows)
		}
		dst.or(has)
		return err
	}
	f, err := w.read(p.attribute, false)
	if err != nil {
		return err
	}
	for row := range w.info.Rows {
		if f.isNil(row) != p.want {
			dst.set(row)
		}
	}
	return nil
}

func (p *presentPred) cost() int { return costRead }
