package gen_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/bench/gen"
)

func TestSpanFactsAnswer(t *testing.T) {
	f := gen.NewSpanFacts()
	for i := range 10 {
		n := f.Trace(gen.TraceID{byte(i)})
		root := "a"
		if i%2 == 1 {
			root = "b"
		}
		f.SetRoot(n, root, i/4)
		f.Span(n, root, "GET", int64(100+i), 1000)
		f.Span(n, "db", "SELECT", int64(50-i), int64(i)) // a child's clock is behind
		if i == 3 || i == 5 {
			f.Fail()
		}
	}
	require.Equal(t, 20, f.Len())
	require.Equal(t, 10, f.Traces())
	require.Equal(t, []string{"a", "b", "db"}, f.Services())
	require.Equal(t, map[string]int64{"a": 5, "b": 5, "db": 10}, f.Counts(false))
	require.Equal(t, map[string]int64{"db": 2}, f.Counts(true))
	require.Equal(t, map[string]int64{"SELECT": 10}, f.Operations("db"))
	require.Equal(t, int64(9), f.Quantile("db", 0.99))
	require.Zero(t, f.Quantile("none", 0.99))
	require.Equal(t, int64(10), f.CountNames(func(s string) bool { return s == "GET" }))
	ids := func(found []gen.FoundTrace) (out []int) {
		for _, x := range found {
			require.Equal(t, 2, x.Spans)
			out = append(out, int(x.ID[0]))
		}
		return out
	}
	require.Equal(t, []int{0, 2, 4}, ids(f.Newest(gen.SpanMatch{Service: "a", Name: "GET"}, 3)))
	require.Equal(t, []int{3, 5}, ids(f.Newest(gen.SpanMatch{Failed: true}, 20)))
	require.Equal(t, []int{8, 9}, ids(f.Newest(gen.SpanMatch{Service: "db", Longer: 7}, 20)))
	require.Empty(t, f.Newest(gen.SpanMatch{Service: "none"}, 20))
	require.Empty(t, f.Newest(gen.SpanMatch{Name: "none"}, 20))
	require.Equal(t, []int{4, 5, 6, 7}, ids(f.NewestOfUser(1, "", 20)))
	require.Equal(t, []int{4, 6}, ids(f.NewestOfUser(1, "a", 20)))
	require.Equal(t, []int{0, 2}, f.Users(2, "a"))
	require.Equal(t, []int{2, 7}, ids(f.Samples(2)))
	require.Len(t, f.Samples(100), 10)
}
