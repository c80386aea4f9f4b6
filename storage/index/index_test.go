package index

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	promlabels "github.com/prometheus/prometheus/model/labels"

	"github.com/vedette-io/vedette/internal/labels"
)

func canonical(ls promlabels.Labels) []byte {
	var out []byte
	ls.Range(func(l promlabels.Label) { out = labels.Append(out, l.Name, l.Value) })
	return out
}

func add(t testing.TB, x *Index, ls promlabels.Labels) Ref {
	t.Helper()
	b := canonical(ls)
	r, err := x.Add(labels.HashCanonical(b), b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// randomIndex makes an index and the label sets in it, by reference.
func randomIndex(t testing.TB, seed uint64, n int) (*Index, []promlabels.Labels) {
	rng := rand.New(rand.NewPCG(seed, 7))
	x := New()
	var sets []promlabels.Labels
	for i := range n {
		ls := []string{"id", fmt.Sprint(i)}
		if rng.IntN(20) > 0 {
			ls = append(ls, "__name__", fmt.Sprintf("m%d", rng.IntN(5)))
		}
		if rng.IntN(2) == 0 {
			ls = append(ls, "zone", []string{"a", "b", "ç"}[rng.IntN(3)])
		}
		set := promlabels.FromStrings(ls...)
		if r := add(t, x, set); int(r) != i {
			t.Fatalf("ref %d, want %d", r, i)
		}
		sets = append(sets, set)
	}
	return x, sets
}

func TestMatchAgainstEveryLabelSet(t *testing.T) {
	x, sets := randomIndex(t, 1, 3000)
	values := map[string][]string{
		"__name__": {"m1", "m9", "", "m[12]", "m1|m2|m3", ".*", ".+", "m.*"},
		"zone":     {"a", "", "a|b", ".+", ".*", "[^a]", "x"},
		"id":       {"17", "1.", "1|2|3|nope", "", ".*7"},
		"none":     {"", "x", ".*", ".+"},
	}
	rng := rand.New(rand.NewPCG(2, 2))
	names := []string{"__name__", "zone", "id", "none"}
	for range 3000 {
		var ms []*promlabels.Matcher
		for range rng.IntN(4) {
			name := names[rng.IntN(len(names))]
			v := values[name][rng.IntN(len(values[name]))]
			ms = append(ms, promlabels.MustNewMatcher(promlabels.MatchType(rng.IntN(4)), name, v))
		}
		var want []Ref
		for i, ls := range sets {
			if matches(ms, ls) {
				want = append(want, Ref(i))
			}
		}
		if got := x.Match(ms); !slices.Equal(got, want) {
			t.Fatalf("match %v: got %d series, want %d", ms, len(got), len(want))
		}
	}
}

func matches(ms []*promlabels.Matcher, ls promlabels.Labels) bool {
	for _, m := range ms {
		if !m.Matches(ls.Get(m.Name)) {
			return false
		}
	}
	return true
}

func TestFindWithAndWithoutHint(t *testing.T) {
	x, sets := randomIndex(t, 3, 5000)
	for i, ls := range sets {
		h := labels.HashCanonical(canonical(ls))
		for _, hint := range []Ref{Ref(i), 0, Ref(i + 1), 1 << 30} {
			if r, ok := x.Find(h, hint); !ok || int(r) != i {
				t.Fatalf("find %s with hint %d: got %d, %v, want %d", ls, hint, r, ok, i)
			}
		}
		if got := x.AppendCanonical(nil, Ref(i)); string(got) != string(canonical(ls)) {
			t.Fatalf("series %d: got labels %q, want %s", i, got, ls)
		}
	}
	if _, ok := x.Find(labels.HashCanonical([]byte("nothing")), 0); ok {
		t.Fatal("found a series that is not there")
	}
}

// An index that is loaded from another's definitions numbers alike.
func TestLoadRepeatsNumbers(t *testing.T) {
	x, _ := randomIndex(t, 4, 2000)
	y := New()
	for p := range x.Pairs() {
		if err := y.AddPair(x.PairBytes(Pair(p))); err != nil {
			t.Fatal(err)
		}
	}
	for r := range x.Len() {
		if err := y.AddLoaded(x.AppendSeriesPairs(nil, Ref(r))); err != nil {
			t.Fatal(err)
		}
	}
	if x.Len() != y.Len() || x.Families() != y.Families() {
		t.Fatalf("got %d series in %d families, want %d in %d", y.Len(), y.Families(), x.Len(), x.Families())
	}
	for r := range x.Len() {
		if x.Hash(Ref(r)) != y.Hash(Ref(r)) || x.FamilyOf(Ref(r)) != y.FamilyOf(Ref(r)) {
			t.Fatalf("series %d differs", r)
		}
	}
	for f := range x.Families() {
		if !slices.Equal(x.FamilyRefs(Family(f)), y.FamilyRefs(Family(f))) || x.FamilyName(Family(f)) != y.FamilyName(Family(f)) {
			t.Fatalf("family %d differs", f)
		}
	}
}

func TestHolesMatchNothing(t *testing.T) {
	x := New()
	add(t, x, promlabels.FromStrings("__name__", "a"))
	if err := x.PadTo(5, 4); err != nil {
		t.Fatal(err)
	}
	r := add(t, x, promlabels.FromStrings("__name__", "b"))
	if r != 4 {
		t.Fatalf("ref %d behind the holes, want 4", r)
	}
	if err := x.AddLoaded([]Pair{3}); err != nil { // of a lost pair: lost too
		t.Fatal(err)
	}
	if !x.IsHole(2) || !x.IsHole(5) || x.IsHole(4) {
		t.Fatal("holes are not where they should be")
	}
	if got := x.Match(nil); !slices.Equal(got, []Ref{0, 4}) {
		t.Fatalf("match all: %v", got)
	}
	if err := x.PadTo(1, 1); err == nil {
		t.Fatal("padded backwards")
	}
	if err := x.AddLoaded([]Pair{99}); err == nil {
		t.Fatal("took an unknown pair")
	}
	if err := x.AddPair([]byte("\x0a\x01")); err == nil {
		t.Fatal("took a broken pair")
	}
	if err := x.AddPair(x.PairBytes(0)); err == nil {
		t.Fatal("took a pair twice")
	}
}

func BenchmarkAdd(b *testing.B) {
	sets := make([][]byte, 100_000)
	for i := range sets {
		sets[i] = canonical(promlabels.FromStrings("__name__", fmt.Sprintf("node_metric_%d_total", i%534), "cluster", "prod", "cpu", fmt.Sprint(i%8),
			"instance", fmt.Sprintf("10.0.0.%d:9100", i/534), "job", "node", "mode", "user", "region", "eu-1"))
	}
	b.ReportAllocs()
	for i := 0; i < b.N; {
		x := New()
		for _, s := range sets {
			if _, err := x.Add(labels.HashCanonical(s), s); err != nil {
				b.Fatal(err)
			}
			i++
		}
		b.ReportMetric(float64(x.Bytes())/float64(x.Len()), "B/series")
	}
}
