package wire

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

// batch makes n series of up to three samples, some with histograms, exemplars,
// starts and deltas.
func batch(rnd *rand.Rand, n int) *signal.Metrics {
	m := &signal.Metrics{}
	for i := range n {
		lset := labels.Append(nil, "__name__", fmt.Sprint("m", i))
		m.Labels = append(m.Labels, signal.ByteRange{Off: uint32(len(m.Buf)), Len: uint32(len(lset))})
		m.Buf = append(m.Buf, lset...)
		m.Hash = append(m.Hash, labels.HashCanonical(lset))
		for j := range rnd.IntN(4) {
			m.Times = append(m.Times, int64(1000+i+j))
			m.Values = append(m.Values, rnd.Float64())
			m.Starts = append(m.Starts, int64(i))
		}
		m.SampleEnd = append(m.SampleEnd, uint32(len(m.Times)))
		if rnd.IntN(3) == 0 {
			m.Histograms = append(m.Histograms, signal.HistogramSample{Series: uint32(i), Time: int64(2000 + i), Int: &histogram.Histogram{Count: uint64(i)}})
		}
		if rnd.IntN(3) == 0 {
			m.Exemplars = append(m.Exemplars, signal.Exemplar{Series: uint32(i), Time: int64(i), Labels: m.Labels[i]})
		}
		if rnd.IntN(3) == 0 {
			m.Deltas = append(m.Deltas, uint32(i))
		}
	}
	m.Metadata = []signal.Metadata{{Family: "m"}}
	return m
}

// lines prints everything in a batch, a line each.
func lines(m *signal.Metrics) (out []string) {
	name := func(i uint32) string { return string(m.Bytes(m.Labels[i])) }
	begin := uint32(0)
	for i, end := range m.SampleEnd {
		for k := begin; k < end; k++ {
			out = append(out, fmt.Sprint(name(uint32(i)), m.Hash[i], m.Times[k], m.Values[k], m.Starts[k]))
		}
		begin = end
	}
	for _, h := range m.Histograms {
		out = append(out, fmt.Sprint("histogram ", name(h.Series), h.Time, h.Int.Count))
	}
	for _, e := range m.Exemplars {
		out = append(out, fmt.Sprint("exemplar ", name(e.Series), e.Time))
	}
	for _, i := range m.Deltas {
		out = append(out, "delta "+name(i))
	}
	for _, d := range m.Metadata {
		out = append(out, "metadata "+d.Family)
	}
	return out
}

// However a batch is divided, nothing is lost, doubled or put elsewhere, rows keep
// their order, and no payload is too large.
func TestDivide(t *testing.T) {
	var p Parter
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		m := batch(rnd, rnd.IntN(40))
		o := PartOptions{Partitions: 1 + rnd.IntN(4), MaxBytes: rnd.IntN(3) * (20 + rnd.IntN(200))}
		route := func(row int) int { return int(m.Hash[row].Lo % uint64(o.Partitions)) }
		encoded := map[string]bool{}
		encode := func(dst []byte, rows []uint32, first bool) []byte {
			if first {
				dst = append(dst, '+')
			}
			for _, i := range rows {
				dst = fmt.Appendf(dst, "%4d,", i)
			}
			return dst
		}
		parts, err := p.Divide(m, buffer.FormatRemoteWriteV1, o, seed%2 == 0, route, encode)
		require.NoError(t, err)
		var got []string
		for _, part := range parts {
			require.True(t, o.MaxBytes == 0 || len(part.Payload) <= o.MaxBytes)
			require.False(t, encoded[string(part.Payload)], "twice the same payload")
			encoded[string(part.Payload)] = true
			require.NotContains(t, string(part.Payload[1:]), "+", "the first is the first")
			for i, h := range part.Metrics.Hash {
				require.Equal(t, part.Partition, int(h.Lo%uint64(o.Partitions)))
				require.True(t, i == 0 || part.Metrics.Labels[i-1].Off < part.Metrics.Labels[i].Off, "order of rows")
			}
			oldest, newest := TimeRange(part.Metrics)
			require.Equal(t, []int64{oldest, newest}, []int64{part.MinTime, part.MaxTime})
			got = append(got, lines(part.Metrics)...)
		}
		want := lines(m)
		if len(m.Hash) == 0 && seed%2 == 0 {
			want = nil // metadata lies in rows, and there is none
		}
		slices.Sort(want)
		slices.Sort(got)
		require.Equal(t, want, got)
		p.Reset()
	}
}

func TestDivideTooLarge(t *testing.T) {
	var p Parter
	m := batch(rand.New(rand.NewPCG(1, 1)), 3)
	encode := func(dst []byte, rows []uint32, _ bool) []byte { return append(dst, make([]byte, 100*len(rows))...) }
	_, err := p.Divide(m, buffer.FormatRemoteWriteV1, PartOptions{Partitions: 1, MaxBytes: 99}, false, nil, encode)
	var size *SizeError
	require.ErrorAs(t, err, &size)
	require.Equal(t, SizeError{What: "payload of one series for the buffer", Got: 100, Limit: 99}, *size)
}

func TestBudget(t *testing.T) {
	granted := 0
	refusal := errors.New("no")
	var b Budget
	b.Begin(func(n int) error {
		if granted+n > 3*reserveStep {
			return refusal
		}
		granted += n
		return nil
	})
	var s []int64
	var err error
	for err == nil {
		if s, err = Grow(&b, s, 8); err == nil {
			s = append(s, 1)
			require.LessOrEqual(t, 8*cap(s), granted)
		}
	}
	require.ErrorIs(t, err, refusal)
	require.Equal(t, granted, b.Reserved())
}

// Walking hostile bytes ends, within bounds.
func FuzzWalk(f *testing.F) {
	f.Add([]byte{0x0a, 0x02, 0x08, 0x01, 0x13, 0x0a, 0x00, 0x14, 0x15, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		for i := 0; i < len(b); {
			num, typ, next := Field(b, i)
			if next < 0 {
				return
			}
			if num <= 0 || next <= i || next > len(b) {
				t.Fatalf("field at %d: number %d, next %d of %d", i, num, next, len(b))
			}
			if typ == Bytes {
				if s, e := Span(b, next); s >= 0 && (s < next || e < s || e > len(b)) {
					t.Fatalf("span at %d: %d to %d of %d", next, s, e, len(b))
				}
			}
			if i = Skip(b, next, typ); i < 0 {
				return
			}
			if i > len(b) {
				t.Fatalf("skip to %d of %d", i, len(b))
			}
		}
	})
}
