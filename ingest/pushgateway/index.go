package pushgateway

import (
	"fmt"
	"strings"

	dto "github.com/prometheus/client_model/go"

	"github.com/vedette-io/vedette/internal/labels"
)

// index knows a tenant's groups, and whose each series and each name is. What a
// change under way wants is in it already, what it gives up is still in it.
type index struct {
	groups map[string]*group
	owners map[labels.Hash]*group
	types  map[string]typeCounts
	last   int64 // newest timestamp in use
}

// typeCounts says how many groups have a family of a name, by type.
type typeCounts map[dto.MetricType]int

func newIndex() *index {
	return &index{groups: map[string]*group{}, owners: map[labels.Hash]*group{}, types: map[string]typeCounts{}}
}

// named is a family's name and type.
type named struct {
	name string
	typ  dto.MetricType
}

// change is a change of a group under way.
type change struct {
	index *index
	group *group
	next  *state // nil deletes the group
	at    int64  // unix milliseconds

	claimed  []labels.Hash // series that are new
	gone     [][]byte      // labels of those that are no more
	added    []named
	dropped  []named
	reserved int // series
}

// claimLocked enters what the change wants, or nothing.
func (c *change) claimLocked(checkTypes bool) error {
	old, next := c.group.state, c.next
	if checkTypes {
		if err := c.checkTypesLocked(); err != nil {
			return err
		}
	}
	if next != nil {
		for h, lset := range next.series {
			switch owner := c.index.owners[h]; owner {
			case c.group:
			case nil:
				c.index.owners[h] = c.group
				c.claimed = append(c.claimed, h)
			default:
				c.unclaimLocked()
				return duplicate(lset)
			}
		}
	}
	if old != nil {
		now := next
		if now == nil {
			now = &state{}
		}
		c.gone = old.series.Gone(now.series)
	}
	c.added, c.dropped = diff(next, old), diff(old, next)
	for _, n := range c.added {
		if c.index.types[n.name] == nil {
			c.index.types[n.name] = typeCounts{}
		}
		c.index.types[n.name][n.typ]++
	}
	return nil
}

func (c *change) unclaimLocked() {
	for _, h := range c.claimed {
		delete(c.index.owners, h)
	}
	c.claimed = nil
}

// settleLocked makes the change the group's state, or takes it back.
func (c *change) settleLocked(done bool) {
	names := c.added
	if done {
		names = c.dropped
		for _, lset := range c.gone {
			delete(c.index.owners, labels.HashCanonical(lset))
		}
	} else {
		c.unclaimLocked()
	}
	for _, n := range names {
		counts := c.index.types[n.name]
		if counts[n.typ]--; counts[n.typ] == 0 {
			delete(counts, n.typ)
		}
		if len(counts) == 0 {
			delete(c.index.types, n.name)
		}
	}
}

// diff returns the families of a that b does not have with the same type.
func diff(a, b *state) (out []named) {
	if a == nil {
		return nil
	}
	for name, f := range a.families {
		if t, ok := b.typeOf(name); !ok || t != f.proto.GetType() {
			out = append(out, named{name, f.proto.GetType()})
		}
	}
	return out
}

// typeOf returns the type of a family; s may be nil.
func (s *state) typeOf(name string) (dto.MetricType, bool) {
	if s == nil || s.families[name] == nil {
		return 0, false
	}
	return s.families[name].proto.GetType(), true
}

// elsewhereLocked returns the types that other groups have for a name.
func (c *change) elsewhereLocked(name string) (types []dto.MetricType) {
	own, has := c.group.state.typeOf(name)
	for t, n := range c.index.types[name] {
		if has && t == own {
			n--
		}
		if n > 0 {
			types = append(types, t)
		}
	}
	return types
}

// anyLocked returns the types that a name will have, here and elsewhere.
func (c *change) anyLocked(name string) []dto.MetricType {
	types := c.elsewhereLocked(name)
	if t, ok := c.next.typeOf(name); ok {
		types = append(types, t)
	}
	return types
}

// checkTypesLocked compares the types of families with those of other groups,
// and the names with those of the series of histograms and summaries.
func (c *change) checkTypesLocked() error {
	if c.next == nil {
		return nil
	}
	for name, f := range c.next.families {
		typ := f.proto.GetType()
		for _, other := range c.elsewhereLocked(name) {
			if other != typ {
				return fmt.Errorf("metric %q has type %s but should have %s, as in other groups", name, typ, other)
			}
		}
		for _, suffix := range suffixesOf(typ) {
			if len(c.anyLocked(name+suffix)) > 0 {
				return fmt.Errorf("%s %q collides with metric %q", kindOf(typ), name, name+suffix)
			}
		}
		for _, suffix := range []string{"_count", "_sum", "_bucket"} {
			base, ok := strings.CutSuffix(name, suffix)
			if !ok {
				continue
			}
			for _, t := range c.anyLocked(base) {
				if suffix != "_bucket" && t == dto.MetricType_SUMMARY || isHistogram(t) {
					return fmt.Errorf("metric %q collides with %s %q", name, kindOf(t), base)
				}
			}
		}
	}
	return nil
}

func isHistogram(t dto.MetricType) bool {
	return t == dto.MetricType_HISTOGRAM || t == dto.MetricType_GAUGE_HISTOGRAM
}

func suffixesOf(t dto.MetricType) []string {
	switch {
	case isHistogram(t):
		return []string{"_count", "_sum", "_bucket"}
	case t == dto.MetricType_SUMMARY:
		return []string{"_count", "_sum"}
	}
	return nil
}

func kindOf(t dto.MetricType) string {
	return strings.ReplaceAll(strings.ToLower(t.String()), "_", " ")
}
