package gen

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// shape says how a series continues beyond what was recorded.
type shape uint8

const (
	constant shape = iota
	counter
	gauge
	noisy
)

// maxExact is the largest integer below which every integer is a float64.
const maxExact = 1 << 53

// Label is one name and value of a series.
type Label struct{ Name, Value string }

// recordedSeries is one series of the recording and what its continuation needs.
type recordedSeries struct {
	labels []Label // sorted by name, __name__ included
	shape  shape
	// decimals is the number of decimals of the recorded values, or -1 where
	// the values need more digits than a float64 keeps of a scaled integer.
	decimals int
	values   []float64
	steps    []float64 // differences between neighbours, in units of 10^-decimals
	min, max float64   // of the values, in the same units
}

// scale returns 10^decimals, or 1 where values are kept as they are.
func (s *recordedSeries) scale() float64 {
	if s.decimals < 0 {
		return 1
	}
	return pow10(s.decimals)
}

// Recording is a sequence of scrapes of one target.
type Recording struct {
	series []recordedSeries
	types  map[string]string // of families, as exposed
	help   map[string]string
	jitter []int64 // milliseconds by which gaps between scrapes left their median
}

// Series returns how many series one recorded scrape has.
func (r *Recording) Series() int { return len(r.series) }

// LoadRecording reads every *.txt.gz of dir, text exposition format, each named
// by the unix time of its scrape in milliseconds. Every scrape must have the same
// series.
func LoadRecording(dir string) (*Recording, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.txt.gz"))
	if err != nil {
		return nil, fmt.Errorf("list recorded scrapes: %w", err)
	}
	if len(names) < 3 {
		return nil, fmt.Errorf("list recorded scrapes: %s holds %d files *.txt.gz, want at least 3", dir, len(names))
	}
	sort.Strings(names)
	var (
		times []int64
		order []string
		rec   = &Recording{types: map[string]string{}, help: map[string]string{}}
		all   = map[string][]string{}
	)
	for i, name := range names {
		ts, err := strconv.ParseInt(strings.TrimSuffix(filepath.Base(name), ".txt.gz"), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("parse scrape time of %s: %w", name, err)
		}
		times = append(times, ts)
		err = rec.readScrape(name, func(series, value string) {
			if _, ok := all[series]; !ok {
				order = append(order, series)
			}
			all[series] = append(all[series], value)
		})
		if err != nil {
			return nil, fmt.Errorf("read scrape %s: %w", name, err)
		}
		for _, s := range order {
			if len(all[s]) != i+1 {
				return nil, fmt.Errorf("read scrape %s: series %s has %d values so far, want %d", name, s, len(all[s]), i+1)
			}
		}
	}
	rec.jitter = jitterOf(times)
	for _, key := range order {
		s, err := newRecordedSeries(key, all[key], rec.types)
		if err != nil {
			return nil, fmt.Errorf("parse series %s: %w", key, err)
		}
		rec.series = append(rec.series, s)
	}
	return rec, nil
}

// readScrape calls sample for each sample line of one compressed scrape and
// notes the metrics' types and descriptions.
func (r *Recording) readScrape(name string, sample func(series, value string)) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	sc := bufio.NewScanner(z)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		line := sc.Text()
		if strings.HasPrefix(line, "#") {
			switch f := strings.SplitN(line, " ", 4); {
			case len(f) == 4 && f[1] == "TYPE":
				r.types[f[2]] = f[3]
			case len(f) == 4 && f[1] == "HELP":
				r.help[f[2]] = f[3]
			}
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		if i < 0 {
			return fmt.Errorf("line %q has no value", line)
		}
		sample(line[:i], line[i+1:])
	}
	return sc.Err()
}

func newRecordedSeries(key string, texts []string, types map[string]string) (recordedSeries, error) {
	labels, err := parseSeries(key)
	if err != nil {
		return recordedSeries{}, err
	}
	s := recordedSeries{labels: labels}
	for _, t := range texts {
		v, err := strconv.ParseFloat(t, 64)
		if err != nil {
			return s, err
		}
		s.values = append(s.values, v)
		s.decimals = max(s.decimals, decimalsOf(v))
	}
	for _, v := range s.values {
		if math.Abs(v)*pow10(s.decimals) >= maxExact {
			s.decimals = -1
			break
		}
	}
	s.classify(types)
	return s, nil
}

// classify decides the shape and gathers the steps between recorded values.
func (s *recordedSeries) classify(types map[string]string) {
	rising, moving := true, false
	scale := s.scale()
	s.min, s.max = math.Inf(1), math.Inf(-1)
	for i, v := range s.values {
		x := v * scale
		if s.decimals >= 0 {
			x = math.Round(x)
		}
		s.min, s.max = math.Min(s.min, x), math.Max(s.max, x)
		if i == 0 {
			continue
		}
		prev := s.values[i-1] * scale
		if s.decimals >= 0 {
			prev = math.Round(prev)
		}
		s.steps = append(s.steps, x-prev)
		rising = rising && x >= prev
		moving = moving || x != prev
	}
	name := s.labels[0].Value // __name__ sorts before every other label here
	family := strings.TrimSuffix(strings.TrimSuffix(name, "_sum"), "_count")
	switch {
	case !moving:
		s.shape = constant
	case rising && (types[name] == "counter" || types[name] == "untyped" || family != name || strings.HasSuffix(name, "time_seconds")):
		s.shape = counter
	case strings.Contains(name, "duration_seconds"):
		s.shape = noisy
	default:
		s.shape = gauge
	}
}

// parseSeries splits name{a="b",c="d"} into labels sorted by name.
func parseSeries(key string) ([]Label, error) {
	name, rest, found := strings.Cut(key, "{")
	labels := []Label{{"__name__", name}}
	for found && rest != "}" {
		n, tail, ok := strings.Cut(rest, `="`)
		if !ok {
			return nil, errors.New("label without a quoted value")
		}
		end := 0
		for end < len(tail) && tail[end] != '"' {
			if tail[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(tail) {
			return nil, errors.New("label value without an end")
		}
		value, err := strconv.Unquote(`"` + tail[:end] + `"`)
		if err != nil {
			return nil, fmt.Errorf("unquote value of label %s: %w", n, err)
		}
		labels = append(labels, Label{n, value})
		rest = strings.TrimPrefix(tail[end+1:], ",")
	}
	sortLabels(labels)
	return labels, nil
}

func sortLabels(l []Label) { sort.Slice(l, func(i, j int) bool { return l[i].Name < l[j].Name }) }

// decimalsOf counts the decimals of the shortest text that reads as v.
func decimalsOf(v float64) int {
	text := strconv.FormatFloat(v, 'f', -1, 64)
	if i := strings.IndexByte(text, '.'); i >= 0 {
		return len(text) - i - 1
	}
	return 0
}

// jitterOf returns how far each gap between scrapes was from the median gap,
// without the few gaps in which the recorder caught up with its clock.
func jitterOf(times []int64) []int64 {
	gaps := make([]int64, 0, len(times))
	for i := 1; i < len(times); i++ {
		gaps = append(gaps, times[i]-times[i-1])
	}
	sorted := append([]int64(nil), gaps...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i] < sorted[j] })
	median := sorted[len(sorted)/2]
	jitter := gaps[:0]
	for _, g := range gaps {
		if d := g - median; d > -500 && d < 500 {
			jitter = append(jitter, d)
		}
	}
	return jitter
}

func pow10(n int) float64 { return math.Pow10(n) }
