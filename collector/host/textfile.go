package host

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// textMetric is a metric of a text file. It is a prometheus.Metric.
type textMetric struct {
	desc *prometheus.Desc
	dto  *dto.Metric
	name string
	kind dto.MetricType
}

// Desc implements prometheus.Metric.
func (m *textMetric) Desc() *prometheus.Desc { return m.desc }

// Write implements prometheus.Metric.
func (m *textMetric) Write(out *dto.Metric) error {
	out.Label = slices.Clip(m.dto.Label)
	out.Counter, out.Gauge, out.Untyped = m.dto.Counter, m.dto.Gauge, m.dto.Untyped
	out.Summary, out.Histogram = m.dto.Summary, m.dto.Histogram
	return nil
}

// offer hands out the metrics of text files, but for those that a part has, and
// returns how many it kept back.
func (b *batch) offer(ch chan<- prometheus.Metric, taken map[string]*family) (refused int) {
	for i := range b.other {
		m := &b.other[i]
		if taken[m.name] != nil || strings.HasPrefix(m.name, "node_scrape_collector_") {
			refused++
			continue
		}
		ch <- m
	}
	return refused
}

type textfile struct {
	src    *sources
	reader reader
	mtime  *family
	failed *family
}

func openTextfile(s *sources) func(*batch) error {
	t := &textfile{
		src:    s,
		mtime:  gauge("node_textfile_mtime_seconds", "Unixtime mtime of textfiles successfully read.", "file"),
		failed: gauge("node_textfile_scrape_error", "1 if there was an error opening or reading a file, 0 otherwise"),
	}
	return t.collect
}

// textFamily is a family of all text files together.
type textFamily struct {
	help    string
	kind    dto.MetricType
	files   []string
	metrics []*dto.Metric
	seen    map[string]bool
}

func (t *textfile) collect(b *batch) error {
	var failed []error
	fail := func(err error) {
		if err != nil {
			failed = append(failed, err)
		}
	}
	all := map[string]*textFamily{}
	for _, pattern := range t.src.TextfileDirectories {
		dirs, err := filepath.Glob(pattern)
		fail(err)
		if len(dirs) == 0 {
			dirs = []string{pattern} // to say that it is not there
		}
		for _, dir := range dirs {
			entries, err := os.ReadDir(dir)
			fail(err)
			for _, e := range entries {
				if path := filepath.Join(dir, e.Name()); strings.HasSuffix(path, ".prom") {
					if err := t.file(b, path, all); err != nil {
						fail(fmt.Errorf("read %s: %w", path, err))
					}
				}
			}
		}
	}
	b.yield(all)
	b.add(t.failed, truth(len(failed) > 0))
	if len(failed) > 0 {
		return &partialError{errors.Join(failed...)}
	}
	return nil
}

// file adds the families of a file to all, or nothing if it has a fault.
func (t *textfile) file(b *batch, path string, all map[string]*textFamily) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is no regular file")
	}
	data, err := t.reader.read(path)
	if err != nil {
		return err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(data))
	if err != nil {
		return err
	}
	for name, f := range families {
		if have := all[name]; have != nil && have.kind != f.GetType() {
			return fmt.Errorf("%s is a %s there and a %s in %s", name, f.GetType(), have.kind, have.files[0])
		}
		for _, m := range f.Metric {
			if m.TimestampMs != nil {
				return fmt.Errorf("%s has a timestamp, want none: the value would go stale", name)
			}
		}
	}
	for name, f := range families {
		if all[name] == nil {
			all[name] = &textFamily{kind: f.GetType(), seen: map[string]bool{}}
		}
		all[name].help = cmp.Or(all[name].help, f.GetHelp())
		all[name].files = append(all[name].files, path)
		all[name].metrics = append(all[name].metrics, f.Metric...)
	}
	b.add(t.mtime, float64(info.ModTime().Unix()), path)
	return nil
}

// yield puts the families into the batch.
func (b *batch) yield(all map[string]*textFamily) {
	for name, f := range all {
		help := cmp.Or(f.help, "Metric read from "+strings.Join(f.files, ", "))
		desc := prometheus.NewDesc(name, help, nil, nil)
		for _, m := range f.metrics {
			slices.SortFunc(m.Label, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
			key := labelKey(m.Label)
			if f.seen[key] {
				continue
			}
			if len(b.other) >= maxSamples {
				b.full = true
				return
			}
			f.seen[key] = true
			b.other = append(b.other, textMetric{desc, m, name, f.kind})
		}
	}
}

func labelKey(pairs []*dto.LabelPair) string {
	var out strings.Builder
	for _, p := range pairs {
		if p.GetValue() != "" { // an empty label is as good as none
			out.WriteString(p.GetName() + "\xff" + p.GetValue() + "\xff")
		}
	}
	return out.String()
}
