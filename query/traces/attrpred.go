package traces

import (
	"math"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceql"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// attrPred compares an attribute of spans, events or links, or one without scope.
type attrPred struct {
	attribute traceql.Attribute
	m         matcher
	span      *keyColumns   // nil unless the span may have it
	children  []*keyColumns // of events and links
	scoped    bool          // instrumentation may have it
	resource  []uint8       // by resource: 1 matches; nil unless the resource may have it
	has       []uint8       // by resource: 1 has the attribute
	cols      []columnPred  // beside span.cols
	anyRes    bool
}

// columnPred compares the values of a column of strings.
type columnPred struct {
	dict *rows.Dictionary
	memo []uint8 // by code: 1 not hit, 2 hit
	code int64   // that an equality looks for; -1 if the dictionary has none, -2 if not looked for
}

func newAttrPred(w *worker, a traceql.Attribute, m matcher) pred {
	sp := w.space.sp
	p := &attrPred{attribute: a, m: m}
	any := a.Scope == traceql.ScopeNone
	if any || a.Scope == traceql.ScopeSpan {
		p.span = w.keyColumns(rows.LevelSpan, a.Name)
		p.cols = make([]columnPred, len(p.span.cols))
	}
	if any || a.Scope == traceql.ScopeEvent {
		p.children = append(p.children, w.keyColumns(rows.LevelEvent, a.Name))
	}
	if any || a.Scope == traceql.ScopeLink {
		p.children = append(p.children, w.keyColumns(rows.LevelLink, a.Name))
	}
	if !any {
		return p
	}
	for i := range sp.Scopes {
		_, ok := findAttribute(sp.Scopes[i].Attrs, a.Name)
		p.scoped = p.scoped || ok
	}
	p.resource, p.has = make([]uint8, len(sp.Resources)), make([]uint8, len(sp.Resources))
	for i := range sp.Resources {
		v, ok := findAttribute(sp.Resources[i].Attrs, a.Name)
		if !ok || v.t == signal.AttrEmpty {
			continue
		}
		p.has[i], p.anyRes = 1, true
		if m.raw(v) {
			p.resource[i] = 1
		}
	}
	return p
}

func (p *attrPred) cost() int { return costColumn }

// inChildren reports whether events, links or instrumentation of the group may
// have the attribute.
func (p *attrPred) inChildren(w *worker) bool {
	for _, k := range p.children {
		n := w.info.Events
		if k.level == rows.LevelLink {
			n = w.info.Links
		}
		if n > 0 && w.state(k) != keyAbsent {
			return true
		}
	}
	return p.scoped
}

func (p *attrPred) prune(w *worker) verdict {
	if p.inChildren(w) {
		return some
	}
	if p.anyRes && verdictOf(w.resourceSet(), func(r uint32) bool { return p.resource[r] == 1 }) != none {
		return some
	}
	if p.span == nil || !p.mayHit(w) {
		return none
	}
	return some
}

// mayHit reports whether a span of the group may have a value that matches.
func (p *attrPred) mayHit(w *worker) bool {
	switch w.state(p.span) {
	case keyAbsent:
		return false
	case keyMore:
		return true
	}
	if p.m.op != traceql.OpEqual {
		return true
	}
	for i, col := range p.span.cols {
		if p.columnMayHave(w, i, col) {
			return true
		}
	}
	return false
}

// columnMayHave reports whether a column of the group may have the value that an
// equality looks for.
func (p *attrPred) columnMayHave(w *worker, i, col int) bool {
	c := p.m.constant
	switch t := w.space.sp.Columns[col].Type; {
	case t == signal.AttrString:
		return c.Type == traceql.TypeString && w.group.MayHave(col, []byte(c.Text), 0)
	case t == signal.AttrInt && c.Type != traceql.TypeFloat:
		return c.Type.IsNumeric() && w.group.MayHave(col, nil, uint64(c.Num))
	case t == signal.AttrBool:
		return c.Type == traceql.TypeBool
	case t == signal.AttrEmpty:
		return false
	}
	return true
}

func (p *attrPred) eval(w *worker, dst bitmap) error {
	if p.inChildren(w) || p.span != nil && w.state(p.span) == keyMore {
		return (&readPred{attribute: p.attribute, m: p.m}).eval(w, dst)
	}
	hit := w.bitmap()
	defer w.release(hit)
	if p.span == nil {
		return nil
	}
	needHas := p.anyRes
	has := w.bitmap()
	defer w.release(has)
	for i, col := range p.span.cols {
		if err := p.evalColumn(w, i, col, hit, has, needHas); err != nil {
			return err
		}
	}
	if p.anyRes {
		numbers, err := w.cur.Resources()
		if err != nil {
			return err
		}
		b := w.bitmap()
		setBy(b, numbers, p.resource)
		b.andNot(has)
		dst.or(b)
		w.release(b)
	}
	dst.or(hit)
	return nil
}

// evalColumn adds the rows that match to hit, and those that have a value to has
// if that is needed.
func (p *attrPred) evalColumn(w *worker, i, col int, hit, has bitmap, needHas bool) error {
	info := &w.space.sp.Columns[col]
	if info.Type == signal.AttrEmpty {
		return nil
	}
	if !needHas && p.m.op == traceql.OpEqual && !p.columnMayHave(w, i, col) {
		return nil
	}
	c, err := w.cur.Column(col)
	if err != nil || c == nil {
		return err
	}
	if needHas {
		owners, err := w.cur.RowsOf(col)
		if err != nil {
			return err
		}
		for _, row := range owners {
			has.set(int(row))
		}
	}
	found := w.bitmapOf(c.N)
	p.values(c, &p.cols[i], found)
	if found.empty() {
		w.release(found[:0])
		return nil
	}
	owners, err := w.cur.RowsOf(col)
	if err != nil {
		return err
	}
	for k, word := range found {
		for ; word != 0; word &= word - 1 {
			hit.set(int(owners[k<<6+trailing(word)]))
		}
	}
	w.release(found[:0])
	return nil
}

// values adds the numbers of the values that match to dst.
func (p *attrPred) values(c *rows.Column, cp *columnPred, dst bitmap) {
	switch {
	case c.Info.Type == signal.AttrInt:
		p.ints(c.Nums, dst)
	case c.Info.Type == signal.AttrDouble:
		for i, n := range c.Nums {
			if p.m.one(traceql.Float(math.Float64frombits(n))) {
				dst.set(i)
			}
		}
	case c.Info.Type == signal.AttrBool:
		yes, no := p.m.one(traceql.Bool(true)), p.m.one(traceql.Bool(false))
		for i, n := range c.Nums {
			if n != 0 && yes || n == 0 && no {
				dst.set(i)
			}
		}
	case c.Codes != nil:
		p.codes(c, cp, dst)
	case c.Info.Type == signal.AttrString && p.m.op == traceql.OpEqual:
		p.equalTexts(c, dst)
	default:
		for i := range c.N {
			if p.m.raw(rawValue{t: c.Info.Type, bytes: c.At(i)}) {
				dst.set(i)
			}
		}
	}
}

func (p *attrPred) ints(nums []uint64, dst bitmap) {
	lo, hi, ok := p.m.ints()
	if !ok || lo > hi {
		if ok && p.m.negative() && p.m.comparable(traceql.Int(0)) {
			dst.fill(len(nums))
		}
		return
	}
	span, flip := uint64(hi)-uint64(lo), uint64(0)
	if p.m.negative() {
		flip = 1
	}
	for i := range dst {
		word := uint64(0)
		for k, n := range nums[i*64 : min(i*64+64, len(nums))] {
			in := uint64(0)
			if n-uint64(lo) <= span {
				in = 1
			}
			word |= (in ^ flip) << (k & 63)
		}
		dst[i] |= word
	}
}

func (p *attrPred) equalTexts(c *rows.Column, dst bitmap) {
	want := p.m.constant
	if want.Type != traceql.TypeString {
		return
	}
	for i := range c.N {
		if int(c.Offsets[i+1]-c.Offsets[i]) == len(want.Text) && string(c.Bytes[c.Offsets[i]:c.Offsets[i+1]]) == want.Text {
			dst.set(i)
		}
	}
}

// codes compares each code of the dictionary once.
func (p *attrPred) codes(c *rows.Column, cp *columnPred, dst bitmap) {
	if cp.dict != c.Dict {
		*cp = columnPred{dict: c.Dict, code: -2}
	}
	if c.Info.Type == signal.AttrString && p.m.op == traceql.OpEqual {
		if cp.code == -2 {
			cp.code = -1
			if code, ok := c.Dict.Find([]byte(p.m.constant.Text)); ok && p.m.constant.Type == traceql.TypeString {
				cp.code = int64(code)
			}
		}
		if cp.code < 0 {
			return
		}
		want := uint32(cp.code)
		for i := range dst {
			word := uint64(0)
			for k, code := range c.Codes[i*64 : min(i*64+64, len(c.Codes))] {
				in := uint64(0)
				if code == want {
					in = 1
				}
				word |= in << (k & 63)
			}
			dst[i] |= word
		}
		return
	}
	if cp.memo == nil {
		cp.memo = make([]uint8, c.Dict.Len())
	}
	for i, code := range c.Codes {
		if cp.memo[code] == 0 {
			cp.memo[code] = 1
			if p.m.raw(rawValue{t: c.Info.Type, bytes: c.Dict.At(code)}) {
				cp.memo[code] = 2
			}
		}
		if cp.memo[code] == 2 {
			dst.set(i)
		}
	}
}
