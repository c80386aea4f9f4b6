package encoding

import (
	"bufio"
	"compress/gzip"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// scrapesEnv names a directory of recorded scrapes: gzipped text exposition of
// one target, one file a scrape, in order of their names.
const scrapesEnv = "VEDETTE_SCRAPES"

// scrapeSeries is one recorded series and how it behaves.
type scrapeSeries struct {
	name, class string
	vals        []float64
}

var scrapeClasses = []string{"constant", "counter", "gauge", "duration"}

func loadScrapes(tb testing.TB) []scrapeSeries {
	tb.Helper()
	dir := os.Getenv(scrapesEnv)
	if dir == "" {
		tb.Skip(scrapesEnv + " names no directory of recorded scrapes (*.txt.gz)")
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.txt.gz"))
	if err != nil || len(paths) == 0 {
		tb.Fatalf("no *.txt.gz in %s: %v", dir, err)
	}
	sort.Strings(paths)
	byName := map[string][]float64{}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			tb.Fatal(err)
		}
		zr, err := gzip.NewReader(f)
		if err != nil {
			tb.Fatal(err)
		}
		lines := bufio.NewScanner(zr)
		for lines.Scan() {
			line := lines.Text()
			at := strings.LastIndexByte(line, ' ')
			if strings.HasPrefix(line, "#") || at < 0 {
				continue
			}
			v, err := strconv.ParseFloat(line[at+1:], 64)
			if err != nil {
				tb.Fatal(err)
			}
			byName[line[:at]] = append(byName[line[:at]], v)
		}
		if err := lines.Err(); err != nil {
			tb.Fatal(err)
		}
		f.Close()
	}
	var all []scrapeSeries
	for name, vals := range byName {
		s := scrapeSeries{name, "gauge", vals}
		switch {
		case constFloats(vals):
			s.class = "constant"
		case strings.Contains(name, "duration"):
			s.class = "duration"
		case slices.IsSorted(vals):
			s.class = "counter"
		}
		all = append(all, s)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].name < all[j].name })
	return all
}

// longer makes n values that behave like the recorded ones: a counter's
// increments in random order, a gauge's steps bent by fresh noise, a
// duration's values times log-normal noise; all at the precision recorded.
func (s *scrapeSeries) longer(n int, rng *rand.Rand) []float64 {
	out := make([]float64, n)
	if s.class == "constant" {
		fill(out, s.vals[0])
		return out
	}
	var sc Scratch
	ms := make([]int64, len(s.vals))
	scale, ok := uint8(scaleDiv), allInts(ms, s.vals)
	if !ok {
		if scale, ok = toDecimal(ms, s.vals, &sc); !ok || len(sc.except) > 0 {
			scale, _ = toBinary(ms, s.vals, &sc)
		}
	}
	shift := residuals(ms, &sc)
	lo, hi := slices.Min(ms), slices.Max(ms)
	steps := make([]int64, len(ms)-1)
	for i := range steps {
		steps[i] = ms[i+1] - ms[i]
	}
	xs := make([]int64, n)
	x := ms[rng.IntN(len(ms))]
	for i := range xs {
		switch s.class {
		case "counter":
			if i%len(steps) == 0 {
				rng.Shuffle(len(steps), func(a, b int) { steps[a], steps[b] = steps[b], steps[a] })
			}
			x += steps[i%len(steps)]
		case "gauge":
			step := int64(float64(steps[rng.IntN(len(steps))])*(0.7+0.6*rng.Float64())) >> shift << shift
			if x+step < lo || x+step > hi {
				step = -step
			}
			x = min(max(x+step, lo), hi)
		case "duration":
			x = int64(float64(ms[rng.IntN(len(ms))]) * math.Exp(0.15*rng.NormFloat64()))
		}
		xs[i] = x
	}
	unscale(out, xs, scale)
	return out
}

// classBound returns the bytes that an ideal coder of magnitude classes, whose
// probabilities cost nothing, would need for vals at their best scale and order.
func classBound(vals []float64, s *Scratch) float64 {
	ms := make([]int64, len(vals))
	if !allInts(ms, vals) {
		if _, ok := toDecimal(ms, vals, s); !ok {
			if _, ok = toBinary(ms, vals, s); !ok {
				return float64(8 * len(vals))
			}
		}
	}
	residuals(ms, s)
	best := math.Inf(1)
	for _, resid := range s.resid {
		var st residStats
		st.gather(resid)
		for _, h := range []*classHist{&st.zigzag, &st.above} {
			lo, hi := h.span()
			best = min(best, float64(h.bound(len(resid), lo, hi)))
		}
	}
	return best / 8
}

// TestScrapesSize reports bytes per sample on recorded data, by class of series.
func TestScrapesSize(t *testing.T) {
	series := loadScrapes(t)
	var s Scratch
	for _, n := range []int{0, 1, 4, 30, 120, 480} { // 0: what was recorded, as it is
		size, bound, samples, count := map[string]int{}, map[string]float64{}, map[string]int{}, map[string]int{}
		codecs := map[string]int{}
		totalSize, totalSamples, totalBound := 0, 0, 0.0
		rng := rand.New(rand.NewPCG(1, 1))
		for i := range series {
			sr := &series[i]
			chunks := [][]float64{sr.vals}
			if n > 0 {
				chunks = [][]float64{sr.longer(n, rng), sr.longer(n, rng)}
			}
			for _, vals := range chunks {
				payload, c := checkFloats(t, vals, &s)
				codecs[c.String()]++
				size[sr.class] += len(payload)
				samples[sr.class] += len(vals)
				count[sr.class]++
				if sr.class != "constant" && n != 1 && n != 4 {
					bound[sr.class] += classBound(vals, &s)
				}
			}
		}
		for _, c := range scrapeClasses {
			totalSize, totalSamples, totalBound = totalSize+size[c], totalSamples+samples[c], totalBound+bound[c]
			t.Logf("n=%-3d %-9s %4d chunks  %.4f B/sample  bound %.4f", n, c, count[c],
				float64(size[c])/float64(samples[c]), bound[c]/float64(samples[c]))
		}
		t.Logf("n=%-3d all       %.4f B/sample  bound %.4f  %v", n, float64(totalSize)/float64(totalSamples), totalBound/float64(totalSamples), codecs)
	}
}

// benchColumns are chunks of n values over all recorded series of a class, or of every class.
func benchColumns(b *testing.B, class string, n int) [][]float64 {
	rng := rand.New(rand.NewPCG(2, 2))
	var cols [][]float64
	for _, sr := range loadScrapes(b) {
		if class == "all" || sr.class == class {
			cols = append(cols, sr.longer(n, rng))
		}
	}
	return cols
}

func BenchmarkScrapes(b *testing.B) {
	for _, class := range append([]string{"all"}, scrapeClasses...) {
		for _, n := range []int{1, 4, 8, 120} {
			if class != "all" && n != 120 {
				continue
			}
			cols := benchColumns(b, class, n)
			name := class + "/" + strconv.Itoa(n)
			perOp := func(b *testing.B) {
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(cols)*n), "ns/value")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(cols)), "ns/chunk")
			}
			b.Run("append/"+name, func(b *testing.B) {
				var s Scratch
				var buf []byte
				b.ReportAllocs()
				for b.Loop() {
					for _, vals := range cols {
						buf, _ = AppendFloats(buf[:0], vals, &s)
					}
				}
				perOp(b)
			})
			b.Run("decode/"+name, func(b *testing.B) {
				var s Scratch
				payloads := make([][]byte, len(cols))
				codecs := make([]Codec, len(cols))
				for i, vals := range cols {
					payloads[i], codecs[i] = AppendFloats(nil, vals, &s)
				}
				var out []float64
				b.ReportAllocs()
				for b.Loop() {
					for i, p := range payloads {
						var err error
						if out, err = DecodeFloats(out[:0], p, codecs[i], n); err != nil {
							b.Fatal(err)
						}
					}
				}
				perOp(b)
			})
		}
	}
}
