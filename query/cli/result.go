package cli

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Result is the answer to a query.
type Result struct {
	Type     string // "vector", "matrix", "scalar" or "string"
	Series   []Series
	Text     string // of a string
	Warnings []string
	Infos    []string

	// Start, End and Step are what a range query asked for; zero for others.
	Start, End time.Time
	Step       time.Duration

	// Raw is the answer's data as it came.
	Raw json.RawMessage
}

// Series is one series of a result; a scalar is a series without labels.
type Series struct {
	Labels map[string]string
	Points []Point // by time
}

// Point is a sample. Histogram is nil for floats.
type Point struct {
	Time      time.Time
	Value     float64
	Histogram *Histogram
}

// Histogram is a native histogram as the API shows it.
type Histogram struct {
	Count, Sum float64
	Buckets    []Bucket
}

// Bucket counts the observations within its bounds.
type Bucket struct {
	Low, High             float64
	LowClosed, HighClosed bool
	Count                 float64
}

// wireNumber is a float in a JSON string.
type wireNumber float64

func (n *wireNumber) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	f, err := strconv.ParseFloat(s, 64)
	*n = wireNumber(f)
	return err
}

type wireHistogram struct {
	Count   wireNumber `json:"count"`
	Sum     wireNumber `json:"sum"`
	Buckets [][4]any   `json:"buckets"`
}

type wirePoint [2]json.RawMessage

type wireSeries struct {
	Metric     map[string]string `json:"metric"`
	Value      *wirePoint        `json:"value"`
	Histogram  *wirePoint        `json:"histogram"`
	Values     []wirePoint       `json:"values"`
	Histograms []wirePoint       `json:"histograms"`
}

// decode fills r from the data of an answer.
func (r *Result) decode(data []byte) error {
	var d struct {
		ResultType string          `json:"resultType"`
		Result     json.RawMessage `json:"result"`
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return err
	}
	r.Type = d.ResultType
	switch d.ResultType {
	case "vector", "matrix":
		var list []wireSeries
		if err := json.Unmarshal(d.Result, &list); err != nil {
			return err
		}
		for _, w := range list {
			s, err := w.series()
			if err != nil {
				return err
			}
			r.Series = append(r.Series, s)
		}
		return nil
	case "scalar":
		var w wirePoint
		if err := json.Unmarshal(d.Result, &w); err != nil {
			return err
		}
		p, err := w.float()
		r.Series = []Series{{Points: []Point{p}}}
		return err
	case "string":
		var w wirePoint
		if err := json.Unmarshal(d.Result, &w); err != nil {
			return err
		}
		return json.Unmarshal(w[1], &r.Text)
	}
	return fmt.Errorf("result type %q, want vector, matrix, scalar or string", d.ResultType)
}

func (w *wireSeries) series() (Series, error) {
	s := Series{Labels: w.Metric}
	floats, histograms := w.Values, w.Histograms
	if w.Value != nil {
		floats = append(floats, *w.Value)
	}
	if w.Histogram != nil {
		histograms = append(histograms, *w.Histogram)
	}
	for _, f := range floats {
		p, err := f.float()
		if err != nil {
			return s, err
		}
		s.Points = append(s.Points, p)
	}
	for _, h := range histograms {
		p, err := h.histogram()
		if err != nil {
			return s, err
		}
		s.Points = append(s.Points, p)
	}
	slices.SortStableFunc(s.Points, func(a, b Point) int { return a.Time.Compare(b.Time) })
	return s, nil
}

func (w wirePoint) time() (time.Time, error) {
	var seconds float64
	if err := json.Unmarshal(w[0], &seconds); err != nil {
		return time.Time{}, err
	}
	return time.UnixMilli(int64(math.Round(seconds * 1000))).UTC(), nil
}

func (w wirePoint) float() (Point, error) {
	t, err := w.time()
	if err != nil {
		return Point{}, err
	}
	var v wireNumber
	err = json.Unmarshal(w[1], &v)
	return Point{Time: t, Value: float64(v)}, err
}

func (w wirePoint) histogram() (Point, error) {
	t, err := w.time()
	if err != nil {
		return Point{}, err
	}
	var h wireHistogram
	if err := json.Unmarshal(w[1], &h); err != nil {
		return Point{}, err
	}
	out := &Histogram{Count: float64(h.Count), Sum: float64(h.Sum)}
	for _, b := range h.Buckets {
		bucket, err := decodeBucket(b)
		if err != nil {
			return Point{}, err
		}
		out.Buckets = append(out.Buckets, bucket)
	}
	return Point{Time: t, Histogram: out}, nil
}

// decodeBucket decodes [bounds, low, high, count]. Bounds are 0 for (low,high],
// 1 for [low,high), 2 for neither and 3 for both closed.
func decodeBucket(w [4]any) (Bucket, error) {
	bounds, ok := w[0].(float64)
	if !ok {
		return Bucket{}, fmt.Errorf("bucket bounds are %v, want a number", w[0])
	}
	b := Bucket{LowClosed: bounds == 1 || bounds == 3, HighClosed: bounds == 0 || bounds == 3}
	for i, dst := range []*float64{&b.Low, &b.High, &b.Count} {
		s, ok := w[i+1].(string)
		if !ok {
			return b, fmt.Errorf("bucket value is %v, want a string", w[i+1])
		}
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return b, err
		}
		*dst = v
	}
	return b, nil
}

// name returns the labels in PromQL's notation.
func (s *Series) name() string {
	var b strings.Builder
	b.WriteString(clean(s.Labels["__name__"]))
	var pairs []string
	for name, value := range s.Labels {
		if name != "__name__" {
			pairs = append(pairs, clean(name)+"="+strconv.Quote(clean(value)))
		}
	}
	slices.Sort(pairs)
	if len(pairs) > 0 || b.Len() == 0 {
		b.WriteString("{" + strings.Join(pairs, ", ") + "}")
	}
	return b.String()
}

// clean replaces what a terminal would act upon.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return '�'
		}
		return r
	}, s)
}

// cleanLines is clean but for ends of lines.
func cleanLines(s string) string {
	lines := strings.Split(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
	for i, l := range lines {
		lines[i] = clean(strings.ReplaceAll(l, "\t", "    "))
	}
	return strings.Join(lines, "\n")
}

// formatValue prints v exactly, and without an exponent where that is short.
func formatValue(v float64) string {
	if a := math.Abs(v); a >= 1e15 || a != 0 && a < 1e-6 {
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// formatShort prints v in few characters, for axes and summaries.
func formatShort(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e6 {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
