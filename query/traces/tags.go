package traces

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceql"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// scopeIntrinsic is the scope that Tags lists intrinsics by.
const scopeIntrinsic = "intrinsic"

// tagScopes are the scopes in the order in which an answer has them.
var tagScopes = [...]string{"resource", "span", "event", "link", "instrumentation", scopeIntrinsic}

// Tags implements traceql.Querier. With a query, they are those of the spans that
// its filters hold for, whatever it says of their place in the tree.
func (e *Engine) Tags(ctx context.Context, q traceql.TagsRequest) (*traceql.TagsResult, error) {
	t, err := e.beginTags(ctx, "tags", q)
	if err != nil {
		return nil, err
	}
	defer t.run.end()
	names := make(map[string]map[string]struct{})
	for _, s := range tagScopes {
		if q.Scope == "" || q.Scope == s {
			names[s] = make(map[string]struct{})
		}
	}
	if len(names) == 0 {
		return nil, &ScopeError{Scope: q.Scope}
	}
	c := &tagCollector{w: t.w, names: names, seen: make(map[*rows.Space]*tagSets)}
	intrinsicNames(names[scopeIntrinsic])
	if !(len(names) == 1 && names[scopeIntrinsic] != nil) {
		if err := t.groups(c.group); err != nil {
			return nil, fmt.Errorf("list attributes: %w", err)
		}
	}
	return t.names(names), nil
}

// ScopeError reports a scope that does not exist.
type ScopeError struct{ Scope string }

func (e *ScopeError) Error() string {
	return fmt.Sprintf("list attributes: scope %q, want one of %q", e.Scope, tagScopes)
}

// BadRequest marks an error of the one who asks.
func (e *ScopeError) BadRequest() bool { return true }

// tags is the work on a question about names or values of attributes.
type tags struct {
	run        *run
	w          *worker
	condition  traceql.Expr
	start, end int64
	limit      int
}

func (e *Engine) beginTags(ctx context.Context, what string, q traceql.TagsRequest) (*tags, error) {
	query, err := traceql.Parse(q.Query)
	if err != nil {
		return nil, err
	}
	start, end := bounds(q.Start, q.End)
	r, err := e.begin(ctx, what, q.Tenant, start, end)
	if err != nil {
		return nil, err
	}
	return &tags{
		run: r, w: newWorker(r), condition: condition(query.Pipeline), start: start, end: end,
		limit: limit(q.Limit, e.config.MaxValues, e.config.MaxValues),
	}, nil
}

// groups calls f with the rows of every group that the condition may hold for;
// nil are all of a group that need not be read. F returns false when it has
// enough.
func (t *tags) groups(f func(match bitmap) (bool, error)) error {
	defer t.w.charge()
	for _, g := range t.run.view.Groups() {
		if err := t.run.check(); err != nil {
			if errors.Is(err, errStop) {
				return nil
			}
			return err
		}
		more, err := t.group(g, f)
		if err != nil {
			if err := t.run.damaged(err); err != nil {
				return err
			}
			continue
		}
		if !more {
			return nil
		}
	}
	return nil
}

func (t *tags) group(g *rows.Group, f func(match bitmap) (bool, error)) (bool, error) {
	w := t.w
	if err := w.seek(g); err != nil {
		return true, err
	}
	if t.condition == nil && w.info.MinStart >= t.start && w.info.MaxStart <= t.end {
		t.run.groups.Add(1)
		return f(nil)
	}
	match, err := w.matching(t.condition)
	if err != nil || match == nil {
		return true, err
	}
	defer w.release(match)
	if err := w.within(match, t.start, t.end); err != nil || match.empty() {
		return true, err
	}
	return f(match)
}

func (t *tags) names(names map[string]map[string]struct{}) *traceql.TagsResult {
	out := &traceql.TagsResult{}
	left := t.limit
	for _, s := range tagScopes {
		set, ok := names[s]
		if !ok {
			continue
		}
		list := slices.Sorted(maps.Keys(set))
		if len(list) > left {
			t.run.stop(fmt.Sprintf("more than %d names of attributes", t.limit))
			list = list[:left]
		}
		left -= len(list)
		out.Scopes = append(out.Scopes, traceql.TagScope{Name: s, Tags: list})
	}
	out.Stats = t.run.stats()
	return out
}

// intrinsicNames adds the names of intrinsics to a set, unless that is nil.
func intrinsicNames(set map[string]struct{}) {
	if set == nil {
		return
	}
	for i := traceql.IntrinsicNone + 1; i < traceql.NumIntrinsics; i++ {
		info := i.Info()
		if i == traceql.IntrinsicNestedSetLeft || i == traceql.IntrinsicNestedSetRight || i == traceql.IntrinsicNestedSetParent {
			continue // say nothing to people
		}
		if info.Plain != "" {
			set[info.Plain] = struct{}{}
		}
		if info.Scoped != "" {
			set[info.Scope.String()+":"+info.Scoped] = struct{}{}
		}
	}
}

// tagCollector gathers names of attributes.
type tagCollector struct {
	w     *worker
	names map[string]map[string]struct{} // by scope, of those that are wanted
	seen  map[*rows.Space]*tagSets
}

// tagSets are the shapes and resources of a space whose names are gathered.
type tagSets struct{ shapes, resources bitmap }

func (c *tagCollector) group(match bitmap) (bool, error) {
	w := c.w
	sp := w.space.sp
	sets := c.seen[sp]
	if sets == nil {
		sets = &tagSets{shapes: make(bitmap, words(len(sp.Shapes))), resources: make(bitmap, words(len(sp.Resources)))}
		c.seen[sp] = sets
	}
	shapes, resources := w.shapeSet(), w.resourceSet()
	if match == nil && shapes != nil && resources != nil {
		for _, s := range shapes {
			c.shape(sets, s)
		}
		for _, r := range resources {
			c.resource(sets, r)
		}
		return true, c.rest(nil)
	}
	return true, c.rows(sets, match)
}

// rows gathers the names of some rows, all if match is nil.
func (c *tagCollector) rows(sets *tagSets, match bitmap) error {
	w := c.w
	if match == nil {
		match = w.bitmap()
		match.fill(w.info.Rows)
		defer w.release(match)
	}
	shapes, err := w.cur.Shapes()
	if err != nil {
		return err
	}
	resources, err := w.cur.Resources()
	if err != nil {
		return err
	}
	events, err := w.cur.EventRows()
	if err != nil {
		return err
	}
	links, err := w.cur.LinkRows()
	if err != nil {
		return err
	}
	eventShapes, err := w.shapesOf(rows.LevelEvent)
	if err != nil {
		return err
	}
	linkShapes, err := w.shapesOf(rows.LevelLink)
	if err != nil {
		return err
	}
	for i, word := range match {
		for ; word != 0; word &= word - 1 {
			row := i<<6 + trailing(word)
			c.shape(sets, shapes[row])
			c.resource(sets, resources[row])
			if events != nil {
				for _, s := range eventShapes[events[row]:events[row+1]] {
					c.shape(sets, s)
				}
			}
			if links != nil {
				for _, s := range linkShapes[links[row]:links[row+1]] {
					c.shape(sets, s)
				}
			}
		}
	}
	return c.rest(match)
}

// shape gathers the names of attributes that a shape has columns for.
func (c *tagCollector) shape(sets *tagSets, shape uint32) {
	if sets.shapes.has(int(shape)) {
		return
	}
	sets.shapes.set(int(shape))
	sp := c.w.space.sp
	s := &sp.Shapes[shape]
	for _, col := range s.Columns {
		if info := &sp.Columns[col]; info.Role == rows.RoleAttr {
			c.add(levelScope(s.Level), info.Key)
		}
	}
	if s.Level == rows.LevelSpan {
		for _, a := range sp.Scopes[s.Scope].Attrs {
			c.add("instrumentation", a.Key)
		}
	}
}

func (c *tagCollector) resource(sets *tagSets, r uint32) {
	if sets.resources.has(int(r)) {
		return
	}
	sets.resources.set(int(r))
	for _, a := range c.w.space.sp.Resources[r].Attrs {
		c.add("resource", a.Key)
	}
}

func (c *tagCollector) add(scope, key string) {
	if set := c.names[scope]; set != nil {
		set[key] = struct{}{}
	}
}

func levelScope(l rows.Level) string {
	switch l {
	case rows.LevelEvent:
		return "event"
	case rows.LevelLink:
		return "link"
	}
	return "span"
}

// rest gathers the names of packed attributes, of all rows if match is nil.
func (c *tagCollector) rest(match bitmap) error {
	w := c.w
	for level := range rows.NumLevels {
		if c.names[levelScope(level)] == nil {
			continue
		}
		col, ok := w.space.sp.FindColumn(rows.ColumnInfo{Level: level, Role: rows.RoleRest, Type: signal.AttrBytes})
		if !ok {
			continue
		}
		values, err := w.cur.Column(col)
		if err != nil {
			return err
		}
		if values == nil {
			continue
		}
		owners, err := w.cur.RowsOf(col)
		if err != nil {
			return err
		}
		var of []uint32
		switch level {
		case rows.LevelEvent:
			of, err = w.cur.EventOwners()
		case rows.LevelLink:
			of, err = w.cur.LinkOwners()
		}
		if err != nil {
			return err
		}
		for i, owner := range owners {
			if of != nil {
				owner = of[owner]
			}
			if match != nil && !match.has(int(owner)) {
				continue
			}
			if key, _, _, _, ok := rows.ParseRest(values.At(i)); ok {
				c.add(levelScope(level), string(key))
			}
		}
	}
	return nil
}

// TagValues implements traceql.Querier. With a query, they are those of the spans
// that its filters hold for, whatever it says of their place in the tree.
func (e *Engine) TagValues(ctx context.Context, q traceql.TagsRequest) (*traceql.TagValuesResult, error) {
	a, err := traceql.ParseAttribute(q.Name)
	if err != nil {
		return nil, err
	}
	t, err := e.beginTags(ctx, "tag_values", q)
	if err != nil {
		return nil, err
	}
	defer t.run.end()
	v := &valueCollector{tags: t, attribute: a, roots: a.Intrinsic == traceql.IntrinsicRootName || a.Intrinsic == traceql.IntrinsicRootService}
	switch a.Intrinsic {
	case traceql.IntrinsicRootName:
		v.attribute = traceql.Attribute{Intrinsic: traceql.IntrinsicName}
	case traceql.IntrinsicRootService:
		v.attribute = serviceName
	}
	v.attribute.Parent = false
	v.label = newLabelField(v.attribute)
	switch {
	case !readable(v.attribute): // of the tree: any number
	case v.attribute == serviceName && t.condition == nil && !v.roots && q.Start <= 0 && q.End <= 0:
		for _, s := range e.store.Services(q.Tenant) {
			if s != "" {
				v.use(v.label.number(traceql.String(s)))
			}
		}
	default:
		if err := t.groups(v.group); err != nil {
			return nil, fmt.Errorf("list values of %s: %w", a, err)
		}
	}
	return v.result(), nil
}

var serviceName = traceql.Attribute{Scope: traceql.ScopeResource, Name: "service.name"}

// valueCollector gathers the values of one attribute.
type valueCollector struct {
	*tags
	attribute traceql.Attribute
	label     *labelField // numbers the values; the first is nil
	used      []bool      // by number: a span that counts has the value
	count     int         // of those
	roots     bool        // of spans without parent only
	ids       []int32
	rows      []uint32
}

// use takes note of a value by its number.
func (v *valueCollector) use(n int32) {
	if n <= 0 {
		return // none, or beyond what is numbered
	}
	if int(n) >= len(v.used) {
		v.used = append(v.used, make([]bool, int(n)+64-len(v.used))...)
	}
	if !v.used[n] {
		v.used[n] = true
		v.count++
	}
}

// more reports whether there is room for more values.
func (v *valueCollector) more() bool { return v.count <= v.limit }

func (v *valueCollector) group(match bitmap) (bool, error) {
	if v.roots {
		roots := v.w.bitmap()
		defer v.w.release(roots)
		if err := (&rootPred{root: true}).eval(v.w, roots); err != nil {
			return true, err
		}
		if match != nil {
			roots.and(match)
		}
		match = roots
	}
	if match == nil && v.sets() {
		return v.more(), nil
	}
	if a := v.attribute; a.Scope == traceql.ScopeEvent || a.Scope == traceql.ScopeLink || a.Intrinsic >= traceql.IntrinsicEventName {
		return v.every(match)
	}
	v.ids = grow(v.ids, v.w.info.Rows)
	if err := v.w.numbers(v.label, v.ids); err != nil {
		return true, err
	}
	if match == nil {
		for _, n := range v.ids {
			v.use(n)
		}
		return v.more(), nil
	}
	v.rows = match.rows(v.rows[:0])
	for _, row := range v.rows {
		v.use(v.ids[row])
	}
	return v.more(), nil
}

// every gathers all values of rows that may have several.
func (v *valueCollector) every(match bitmap) (bool, error) {
	f, err := v.w.read(v.attribute, false)
	if err != nil {
		return true, err
	}
	for row := range v.w.info.Rows {
		if match == nil || match.has(row) {
			f.each(row, func(s traceql.Static) { v.use(v.label.number(s)) })
		}
	}
	return v.more(), nil
}

// sets gathers the values of the shapes or resources that the group has, if those
// decide the attribute.
func (v *valueCollector) sets() bool {
	w, a := v.w, v.attribute
	switch {
	case a.Intrinsic == traceql.IntrinsicNone && a.Scope == traceql.ScopeResource:
		resources := w.resourceSet()
		if resources == nil {
			return false
		}
		ls := w.labelSpace(v.label)
		for _, r := range resources {
			v.use(w.resourceNumber(v.label, ls, r))
		}
		return true
	case a.Intrinsic == traceql.IntrinsicName || a.Intrinsic == traceql.IntrinsicKind ||
		a.Intrinsic == traceql.IntrinsicInstrumentationName || a.Intrinsic == traceql.IntrinsicInstrumentationVersion:
		shapes := w.shapeSet()
		if shapes == nil {
			return false
		}
		ls := w.labelSpace(v.label)
		for _, s := range shapes {
			if w.space.sp.Shapes[s].Level == rows.LevelSpan {
				v.use(w.shapeNumber(v.label, ls, s))
			}
		}
		return true
	}
	return false
}

func (v *valueCollector) result() *traceql.TagValuesResult {
	out := &traceql.TagValuesResult{}
	for n, used := range v.used {
		if used {
			out.Values = append(out.Values, v.label.values[n])
		}
	}
	slices.SortFunc(out.Values, traceql.Static.Order)
	if len(out.Values) > v.limit {
		v.run.stop(fmt.Sprintf("more than %d values", v.limit))
		out.Values = out.Values[:v.limit]
	}
	out.Stats = v.run.stats()
	return out
}
