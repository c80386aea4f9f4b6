package traceql

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/vedette-io/vedette/internal/signal"
)

// randomTrace makes a trace whose parents are anything: circles, orphans,
// several roots, shared ids.
func randomTrace(rnd *rand.Rand, n int) *Trace {
	s := &signal.Spans{Resources: make([]signal.Resource, 1), Scopes: make([]signal.Scope, 1)}
	id := func() (id signal.SpanID) {
		id[0] = byte(rnd.IntN(n + 3))
		return id
	}
	for i := range n {
		own := signal.SpanID{byte(i + 1)}
		if rnd.IntN(10) == 0 {
			own = id()
		}
		s.SpanIDs, s.Parents = append(s.SpanIDs, own), append(s.Parents, id())
		s.TraceIDs, s.Scope = append(s.TraceIDs, signal.TraceID{1}), append(s.Scope, 0)
		s.Starts, s.Ends = append(s.Starts, int64(rnd.IntN(100))), append(s.Ends, int64(rnd.IntN(200)))
		s.Kinds, s.Statuses = append(s.Kinds, uint8(rnd.IntN(6))), append(s.Statuses, uint8(rnd.IntN(3)))
		s.Names, s.Messages = append(s.Names, signal.ByteRange{}), append(s.Messages, signal.ByteRange{})
		s.AttrBegin, s.AttrEnd = append(s.AttrBegin, 0), append(s.AttrEnd, 0)
		s.EventBegin, s.EventEnd = append(s.EventBegin, 0), append(s.EventEnd, 0)
		s.LinkBegin, s.LinkEnd = append(s.LinkBegin, 0), append(s.LinkEnd, 0)
	}
	t := &Trace{}
	t.Reset(s)
	return t
}

// TestStructural compares every structural operator with its definition, on
// random trees.
func TestStructural(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	below := func(tr *Trace, row, above int) bool {
		for p := tr.Parent(row); p != noRow; p = tr.Parent(p) {
			if p == above {
				return true
			}
		}
		return false
	}
	sibling := func(tr *Trace, a, b int) bool {
		if a == b || tr.Parent(a) != tr.Parent(b) {
			return false
		}
		_, there := tr.byID[tr.Spans.Parents[a]]
		return tr.Parent(a) != noRow || tr.Spans.Parents[a] == tr.Spans.Parents[b] && !tr.Spans.Parents[a].IsZero() && !there
	}
	relations := map[Op]func(tr *Trace, left, right int) bool{
		OpChild:      func(tr *Trace, l, r int) bool { return tr.Parent(r) == l },
		OpParent:     func(tr *Trace, l, r int) bool { return tr.Parent(l) == r },
		OpDescendant: func(tr *Trace, l, r int) bool { return below(tr, r, l) },
		OpAncestor:   func(tr *Trace, l, r int) bool { return below(tr, l, r) },
		OpSibling:    sibling,
	}
	for range 500 {
		tr := randomTrace(rnd, 1+rnd.IntN(12))
		for op := OpChild; op <= OpUnionSibling; op++ {
			q, err := Parse(fmt.Sprintf("{ kind = server || kind = client } %s { status = error || kind = server }", op))
			require.NoError(t, err)
			e := q.Pipeline.Stages[0].(*SpansetOp)
			plain, negated, union := op.Relation()
			var f fields
			f.reset(tr)
			keep := map[int32]bool{}
			for r := range tr.Len() {
				if !f.holds(e.Right.(*Filter).Expr, r) {
					continue
				}
				found := false
				for l := range tr.Len() {
					if f.holds(e.Left.(*Filter).Expr, l) && relations[plain](tr, l, r) {
						found = true
						if union {
							keep[int32(l)] = true
						}
					}
				}
				if found != negated {
					keep[int32(r)] = true
				}
			}
			var want []int32
			for row := range int32(tr.Len()) {
				if keep[row] {
					want = append(want, row)
				}
			}
			var got []int32
			for _, set := range NewEvaluator(q.Pipeline).Eval(tr) {
				got = set.Rows
			}
			require.Equal(t, want, got, "%s", op)
		}
		requireNestedSets(t, tr)
	}
}

// requireNestedSets checks that the numbers say who is below whom.
func requireNestedSets(t *testing.T, tr *Trace) {
	seen := map[int]bool{}
	for row := range tr.Len() {
		left, right, parent := tr.NestedSet(row)
		require.Less(t, left, right)
		require.False(t, seen[left] || seen[right])
		seen[left], seen[right] = true, true
		if p := tr.Parent(row); p != noRow {
			above, end, _ := tr.NestedSet(p)
			require.True(t, above < left && right < end)
			require.Equal(t, above, parent)
		}
	}
	require.Len(t, seen, 2*tr.Len())
}

func TestDeepTrace(t *testing.T) {
	const n = 100_000
	tr := randomTrace(rand.New(rand.NewPCG(1, 1)), 1)
	s := tr.Spans
	for i := 1; i < n; i++ {
		s.SpanIDs, s.Parents = append(s.SpanIDs, signal.SpanID{1, byte(i), byte(i >> 8), byte(i >> 16)}), append(s.Parents, s.SpanIDs[i-1])
		s.TraceIDs, s.Scope = append(s.TraceIDs, s.TraceIDs[0]), append(s.Scope, 0)
		s.Starts, s.Ends, s.Kinds = append(s.Starts, 1), append(s.Ends, 1), append(s.Kinds, 1)
	}
	tr.Reset(s)
	q, err := Parse("{ nestedSetLeft = 1 } >> { childCount = 0 }")
	require.NoError(t, err)
	got := NewEvaluator(q.Pipeline).Eval(tr)
	require.Equal(t, []int32{n - 1}, got[0].Rows)
}

func TestStatic(t *testing.T) {
	big := int64(1)<<53 + 1
	for _, c := range []struct {
		a, b  Static
		order int
		ok    bool
	}{
		{Int(1), Int(2), -1, true},
		{Int(2), Float(1.5), 1, true},
		{Float(1.5), Int(2), -1, true},
		{Float(-1.5), Int(-1), -1, true},
		{Int(big), Float(1 << 53), 1, true},
		{Int(math.MaxInt64), Float(1 << 63), -1, true},
		{Int(math.MinInt64), Float(-1 << 63), 0, true},
		{Int(1), Float(math.Inf(-1)), 1, true},
		{Duration(1e9), Int(1e9), 0, true},
		{Float(math.NaN()), Int(1), 0, false},
		{String("a"), String("b"), -1, true},
		{String("1"), Int(1), 0, false},
		{Status(2), Kind(2), 0, false},
		{Bool(true), Bool(false), 1, true},
		{Static{}, Static{}, 0, false},
	} {
		order, ok := c.a.Compare(c.b)
		require.Equal(t, c.ok, ok, "%s %s", c.a, c.b)
		if ok {
			require.Equal(t, c.order, order, "%s %s", c.a, c.b)
			if order != 0 {
				require.Equal(t, order, c.a.Order(c.b))
			}
		}
	}
	for _, c := range []struct {
		a    Static
		op   Op
		b    Static
		want Static
	}{
		{Int(7), OpAdd, Int(2), Int(9)},
		{Int(7), OpDiv, Int(2), Float(3.5)},
		{Int(8), OpDiv, Int(2), Int(4)},
		{Int(8), OpMod, Int(3), Int(2)},
		{Int(2), OpPow, Int(10), Int(1024)},
		{Int(2), OpPow, Int(-1), Float(0.5)},
		{Int(1), OpDiv, Int(0), Float(math.Inf(1))},
		{Int(2), OpMul, Float(1.5), Float(3)},
		{Duration(1e9), OpMul, Float(1.5), Duration(15e8)},
		{Int(3), OpMul, Duration(5), Duration(15)},
		{Duration(10), OpDiv, Duration(4), Float(2.5)},
		{Duration(10), OpDiv, Int(4), Duration(3)},
		{Duration(10), OpAdd, Duration(5), Duration(15)},
		{Duration(10), OpMod, Int(4), Duration(2)},
		{Duration(1), OpDiv, Int(0), Static{}},
		{String("a"), OpAdd, Int(1), Static{}},
	} {
		require.Equal(t, c.want, c.a.Arithmetic(c.op, c.b), "%s %s %s", c.a, c.op, c.b)
	}
	require.True(t, math.IsNaN(Int(1).Arithmetic(OpMod, Int(0)).F))

	values := []Static{
		{}, Int(1), Int(-1), Float(1), Float(2.5), String(""), String("1"), Bool(true), Duration(1), Status(1), Kind(1),
		{Type: TypeArray, Text: "[]"},
	}
	keys := map[string]Static{}
	for _, v := range values {
		key := string(v.AppendKey(nil))
		require.NotContains(t, keys, key)
		keys[key] = v
		if v.Type == TypeArray {
			continue
		}
		p, err := newParser(v.String())
		require.NoError(t, err)
		back, err := p.constant("a value")
		require.NoError(t, err)
		require.Equal(t, v, back)
	}
}

func TestArrays(t *testing.T) {
	nested := protowire.AppendBytes(protowire.AppendTag(nil, anyArray, protowire.BytesType),
		protowire.AppendBytes(protowire.AppendTag(nil, listValues, protowire.BytesType), anyOf(Int(-5))))
	pair := protowire.AppendString(protowire.AppendTag(nil, pairKey, protowire.BytesType), "k\"\n")
	pair = protowire.AppendBytes(protowire.AppendTag(pair, pairValue, protowire.BytesType), anyOf(Float(1.5)))
	object := protowire.AppendBytes(protowire.AppendTag(nil, listValues, protowire.BytesType), pair)
	raw := protowire.AppendBytes(protowire.AppendTag(nil, anyBytes, protowire.BytesType), []byte{0xff})
	var array []byte
	for _, v := range [][]byte{
		anyOf(String("a")), anyOf(Bool(true)), nil, nested, raw,
		protowire.AppendBytes(protowire.AppendTag(nil, anyMap, protowire.BytesType), object),
	} {
		array = protowire.AppendBytes(protowire.AppendTag(array, listValues, protowire.BytesType), v)
	}
	require.Equal(t, `["a",true,null,[-5],"/w==",{"k\"\u000a":1.5}]`, string(AppendArrayJSON(nil, array)))
	require.Equal(t, []Static{String("a"), Bool(true), String(base64.StdEncoding.EncodeToString([]byte{0xff}))}, appendElements(nil, array))
	require.Equal(t, `{"k\"\u000a":1.5}`, string(AppendMapJSON(nil, object)))

	deep := anyOf(Int(1))
	for range 1000 {
		deep = protowire.AppendBytes(protowire.AppendTag(nil, anyArray, protowire.BytesType),
			protowire.AppendBytes(protowire.AppendTag(nil, listValues, protowire.BytesType), deep))
	}
	list := protowire.AppendBytes(protowire.AppendTag(nil, listValues, protowire.BytesType), deep)
	require.Equal(t, strings.Repeat("[", maxAnyDepth)+"null"+strings.Repeat("]", maxAnyDepth), string(AppendArrayJSON(nil, list)))
}

func TestSummary(t *testing.T) {
	tr := loadTrace(t, "T", strings.Split(everything, "\n"))
	sum := tr.Summary()
	require.Equal(t, "GET /", sum.RootName)
	require.Equal(t, "gateway", sum.RootService)
	require.EqualValues(t, 100e6, sum.Duration)
	require.Equal(t, []ServiceSummary{{"auth", 1, 1}, {"cart", 1, 0}, {"db", 2, 0}, {"gateway", 1, 0}}, sum.Services)
	require.Equal(t, []int{5, 1}, []int{sum.Spans, sum.Errors})

	q, err := Parse("{ .tags != nil } | select(status, resource.service.name, span.nope, event:name)")
	require.NoError(t, err)
	m := tr.SpanMatch(1, q.Attributes())
	require.Equal(t, []KeyValue{
		{"tags", Static{Type: TypeArray, Text: `["x",3,1.5,true]`}}, {"status", Status(2)}, {"service.name", String("auth")},
		{"name", String("exception")},
	}, m.Attrs)
	require.Equal(t, "check", m.Name)
	require.True(t, mustParse(t, "{} > {}").NeedsTree())
	require.True(t, mustParse(t, "{ parent.a }").NeedsTree())
	require.True(t, mustParse(t, "({} | { rootName = `x` }) || {}").NeedsTree())
	require.False(t, mustParse(t, "{ duration > 1s } && { .a }").NeedsTree())
}

func mustParse(t *testing.T, query string) *Query {
	q, err := Parse(query)
	require.NoError(t, err)
	return q
}
