package rows

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/internal/signal"
)

// heap returns the bytes of live objects.
func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// wire returns about how many bytes a batch has on the wire.
func wire(b *signal.Spans) int {
	n := len(b.Buf) + 60*b.Len() + 20*len(b.Events) + 30*len(b.Links) + 10*len(b.Resources)
	return n + 8*len(b.Attrs)
}

func TestHostileBatches(t *testing.T) {
	newSpan := func(b *signal.Spans, n int) int {
		i := b.Len()
		*b = withRow(b)
		if n > 0 {
			b.Scope[i] = uint32(len(b.Scopes) - 1)
		}
		binary.LittleEndian.PutUint64(b.TraceIDs[i][:], uint64(n/20))
		binary.LittleEndian.PutUint64(b.SpanIDs[i][:], uint64(n))
		b.Starts[i], b.Ends[i] = int64(n), int64(2*n)
		return i
	}
	attrs := func(b *signal.Spans, i int, keys ...string) {
		b.AttrBegin[i] = uint32(len(b.Attrs))
		for _, k := range keys {
			b.Attrs = append(b.Attrs, signal.Attr{Key: put(b, k), Type: signal.AttrString, Num: signal.PackRange(put(b, k))})
		}
		b.AttrEnd[i] = uint32(len(b.Attrs))
	}
	for name, add := range map[string]func(b *signal.Spans, n int){
		"keys": func(b *signal.Spans, n int) {
			attrs(b, newSpan(b, n), fmt.Sprint("a", n), fmt.Sprint("b", n), fmt.Sprint("c", n))
		},
		"values": func(b *signal.Spans, n int) {
			attrs(b, newSpan(b, n), "k")
			b.Attrs[len(b.Attrs)-1].Num = signal.PackRange(put(b, fmt.Sprint("value ", n)))
		},
		"names": func(b *signal.Spans, n int) { i := newSpan(b, n); b.Names[i] = put(b, fmt.Sprint("name ", n)) },
		"orders": func(b *signal.Spans, n int) {
			keys := strings.Split("abcdefghijklmnop", "")
			for i := range keys {
				j := (n >> (i % 16)) % len(keys)
				keys[i], keys[j] = keys[j], keys[i]
			}
			attrs(b, newSpan(b, n), keys...)
		},
		"resources": func(b *signal.Spans, n int) {
			i := newSpan(b, n)
			b.Resources = append(b.Resources, signal.Resource{SchemaURL: put(b, fmt.Sprint("r", n))})
			b.Scopes = append(b.Scopes, signal.Scope{Resource: uint32(len(b.Resources) - 1)})
			b.Scope[i] = uint32(len(b.Scopes) - 1)
		},
		"events": func(b *signal.Spans, n int) {
			i := newSpan(b, n)
			b.EventBegin[i] = uint32(len(b.Events))
			b.Events = slices.Grow(b.Events, 40)[:len(b.Events)+40]
			clear(b.Events[len(b.Events)-40:])
			b.EventEnd[i] = uint32(len(b.Events))
		},
		"same start": func(b *signal.Spans, n int) {
			i := newSpan(b, n)
			b.TraceIDs[i], b.SpanIDs[i], b.Starts[i] = signal.TraceID{1}, signal.SpanID{1}, 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{3, 5000} { // spans of a batch
				before, sent := heap(), 0
				tab := NewTable(DefaultConfig())
				for n := 0; n < 15_000; {
					b := &signal.Spans{Resources: make([]signal.Resource, 1), Scopes: make([]signal.Scope, 1)}
					for range size {
						add(b, n)
						n++
					}
					sent += wire(b)
					added, _, err := tab.Append(b)
					require.NoError(t, err)
					require.Equal(t, size, added)
				}
				took := heap() - before
				require.Less(t, took, 12*sent+1<<20, "batches of %d", size)
				require.Less(t, took, 2*tab.Bytes()+1<<20, "batches of %d", size)
				sp, err := tab.Snapshot().Space()
				require.NoError(t, err)
				require.LessOrEqual(t, len(sp.Columns), DefaultConfig().MaxColumns+10)
				require.Equal(t, tab.Rows(), spansOf(t, tab.Snapshot()).Len())
			}
		})
	}
}

// A tenant with a few spans has a table of its own, and there may be thousands.
func TestSmallTablesAreSmall(t *testing.T) {
	b := &signal.Spans{Resources: make([]signal.Resource, 1), Scopes: make([]signal.Scope, 1)}
	*b = withRow(b)
	before := heap()
	tables := make([]*Table, 200)
	for i := range tables {
		tables[i] = NewTable(DefaultConfig())
		_, _, err := tables[i].Append(b)
		require.NoError(t, err)
	}
	require.Less(t, heap()-before, len(tables)*(16<<10))
	runtime.KeepAlive(tables)
}

func TestDictionariesThatDoNotPay(t *testing.T) {
	tab := NewTable(DefaultConfig())
	var in []*signal.Spans
	for n := range 40 {
		b := &signal.Spans{Resources: make([]signal.Resource, 1), Scopes: make([]signal.Scope, 1)}
		for i := range 100 {
			*b = withRow(b)
			b.SpanIDs[i] = signal.SpanID{byte(n), byte(i)}
			b.AttrBegin[i] = uint32(len(b.Attrs))
			for key, value := range map[string]string{"few": fmt.Sprint(i), "all": fmt.Sprint(n*100 + i)} {
				b.Attrs = append(b.Attrs, signal.Attr{Key: put(b, key), Type: signal.AttrString, Num: signal.PackRange(put(b, value))})
			}
			b.AttrEnd[i] = uint32(len(b.Attrs))
		}
		in = append(in, b)
		_, _, err := tab.Append(b)
		require.NoError(t, err)
	}
	view := tab.Snapshot()
	sp, err := view.Space()
	require.NoError(t, err)
	var c Cursor
	coded := map[string]int{}
	raw := map[string]int{}
	for _, g := range view.Groups() {
		require.NoError(t, c.Seek(g))
		for _, col := range g.Columns() {
			v, err := c.Column(int(col))
			require.NoError(t, err)
			if v.Codes != nil {
				coded[v.Info.Key] += v.N
			} else {
				raw[v.Info.Key] += v.N
			}
		}
	}
	require.Equal(t, 4000, coded["few"])
	require.Positive(t, raw["all"])
	col, ok := sp.FindColumn(ColumnInfo{Key: "few", Type: signal.AttrString})
	require.True(t, ok)
	d, err := sp.Dictionary(col)
	require.NoError(t, err)
	require.Equal(t, 100, d.Len())
	require.Equal(t, []int{col}, sp.FindKey(LevelSpan, "few", nil))
	require.Equal(t, describeAll(in...), describeAll(spansOf(t, view)))
}

func FuzzParseRest(f *testing.F) {
	f.Add([]byte{byte(signal.AttrInt), 1, 'k', 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(AppendRest(nil, []byte("key"), signal.AttrString, 0, []byte("value")))
	f.Add([]byte{1, 0x80})
	f.Fuzz(func(t *testing.T, v []byte) {
		key, typ, num, value, ok := ParseRest(v)
		if !ok {
			return
		}
		k, ty, n, val, ok := ParseRest(AppendRest(nil, key, typ, num, value))
		require.True(t, ok)
		require.Equal(t, string(key), string(k))
		require.Equal(t, typ, ty)
		require.Equal(t, num, n)
		require.Equal(t, string(value), string(val))
	})
}
