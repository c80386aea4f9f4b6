package index

import (
	"math/bits"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
)

// Match returns the series that satisfy every matcher, ascending. The slice may
// be the index's own and must not be changed. As in Prometheus, a matcher that
// accepts the empty string accepts series without the label.
func (x *Index) Match(ms []*labels.Matcher) []Ref {
	// Matchers that need the label to be there narrow by intersection; the
	// others by taking away the series whose value does not match.
	var need, avoid [][]Ref
	for _, m := range ms {
		if m.Matches("") {
			if bad := x.matching(m, false); len(bad) > 0 {
				avoid = append(avoid, bad)
			}
			continue
		}
		refs := x.matching(m, true)
		if len(refs) == 0 {
			return nil
		}
		need = append(need, refs)
	}
	var out []Ref
	if len(need) == 0 {
		out = x.all()
	} else {
		slices.SortFunc(need, func(a, b []Ref) int { return len(a) - len(b) })
		out = need[0]
		for _, n := range need[1:] {
			out = intersect(out, n)
		}
	}
	for _, a := range avoid {
		out = subtract(out, a)
	}
	return out
}

func (x *Index) all() []Ref {
	out := make([]Ref, 0, len(x.hashes))
	for i := range x.hashes {
		if r := Ref(i); x.holes == 0 || !x.IsHole(r) {
			out = append(out, r)
		}
	}
	return out
}

// matching returns the series that carry m's label with a value for which
// m.Matches gives want.
func (x *Index) matching(m *labels.Matcher, want bool) []Ref {
	if want && m.Type == labels.MatchEqual {
		p, ok := x.pairs.find(appendPair(nil, m.Name, m.Value))
		if !ok {
			return nil
		}
		return x.postings[p]
	}
	n := x.names[m.Name]
	if n == nil {
		return nil
	}
	if set := m.SetMatches(); want && len(set) > 0 {
		return x.union(x.pairsOf(m.Name, set))
	}
	var ps []Pair
	for _, p := range n.pairs {
		_, v := x.pairs.split(p)
		if m.Matches(string(v)) == want {
			ps = append(ps, p)
		}
	}
	return x.union(ps)
}

func (x *Index) pairsOf(name string, values []string) []Pair {
	var ps []Pair
	var msg []byte
	for _, v := range values {
		msg = appendPair(msg[:0], name, v)
		if p, ok := x.pairs.find(msg); ok {
			ps = append(ps, p)
		}
	}
	slices.Sort(ps)
	return slices.Compact(ps)
}

// union merges the postings of pairs of one name. A series has one value per
// name, so no ref stands in two of them.
func (x *Index) union(ps []Pair) []Ref {
	switch len(ps) {
	case 0:
		return nil
	case 1:
		return x.postings[ps[0]]
	}
	total := 0
	for _, p := range ps {
		total += len(x.postings[p])
	}
	if total > len(x.hashes)/64 {
		return x.unionDense(ps, total)
	}
	out := make([]Ref, 0, total)
	for _, p := range ps {
		out = append(out, x.postings[p]...)
	}
	slices.Sort(out)
	return out
}

// unionDense marks refs in a bitmap: cheaper than sorting when many match.
func (x *Index) unionDense(ps []Pair, total int) []Ref {
	words := make([]uint64, (len(x.hashes)+63)/64)
	for _, p := range ps {
		for _, r := range x.postings[p] {
			words[r/64] |= 1 << (r % 64)
		}
	}
	out := make([]Ref, 0, total)
	for i, w := range words {
		for w != 0 {
			out = append(out, Ref(i*64+bits.TrailingZeros64(w)))
			w &= w - 1
		}
	}
	return out
}

// intersect returns the refs in both ascending lists; a is the shorter.
func intersect(a, b []Ref) []Ref {
	out := make([]Ref, 0, len(a))
	if len(b) > 16*len(a) {
		for _, r := range a {
			i, ok := gallop(b, r)
			if ok {
				out = append(out, r)
			}
			b = b[i:]
		}
		return out
	}
	i, j := 0, 0
	for i < len(a) && j < len(b) {
		switch {
		case a[i] == b[j]:
			out = append(out, a[i])
			i++
			j++
		case a[i] < b[j]:
			i++
		default:
			j++
		}
	}
	return out
}

// subtract returns the refs of a that are not in b; both ascend.
func subtract(a, b []Ref) []Ref {
	out := make([]Ref, 0, len(a))
	for _, r := range a {
		i, ok := gallop(b, r)
		if !ok {
			out = append(out, r)
		}
		b = b[i:]
	}
	return out
}

// gallop finds r in ascending list b: the index where it is or would be.
func gallop(b []Ref, r Ref) (int, bool) {
	hi := 1
	for hi < len(b) && b[hi] < r {
		hi *= 2
	}
	lo := hi / 2
	if hi > len(b) {
		hi = len(b)
	} else if hi < len(b) {
		hi++
	}
	i, ok := slices.BinarySearch(b[lo:hi], r)
	return lo + i, ok
}
