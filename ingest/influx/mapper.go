package influx

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"github.com/vedette-io/vedette/ingest/remotewrite"
	"github.com/vedette-io/vedette/internal/labels"
)

const (
	metricName = "__name__"

	// maxLineBytes bounds what the labels of a line's fields take together, since
	// each field repeats all of them.
	maxLineBytes = 1 << 20
)

// label is a label of a series; its name is sanitized.
type label struct{ name, value []byte }

// mapper makes series of lines.
type mapper struct {
	separator  []byte
	dbLabel    []byte
	skipSingle bool
	sanitize   bool

	labels []label
	before []byte // canonical labels that sort before the metric's name
	after  []byte
	name   []byte
	set    []byte // labels of the field at hand
	arena  []byte // names that were sanitized
}

func newMapper(c Config) *mapper {
	m := &mapper{
		separator: []byte(c.Separator), dbLabel: []byte(c.DBLabel), skipSingle: c.SkipSingleField, sanitize: c.Sanitize,
	}
	if c.Sanitize {
		m.separator = appendSanitized(nil, m.separator, notName)
		if c.DBLabel != "" {
			m.dbLabel = appendLabelName(nil, m.dbLabel)
		}
	}
	return m
}

// add appends the line that p has parsed to b, as samples at time t, in
// milliseconds.
func (m *mapper) add(b *remotewrite.Builder, p *parser, db string, t int64) error {
	if len(p.fields) == 0 {
		return nil
	}
	if err := m.labelsOf(p, db); err != nil {
		return err
	}
	if (len(m.before)+len(m.after)+len(p.measurement.b))*len(p.fields) > maxLineBytes {
		return errLabelBytes
	}
	m.name = m.appendName(m.name[:0], p.measurement)
	alone := m.skipSingle && len(p.fields)+p.strings == 1
	prefix := len(m.name)
	for i := range p.fields {
		f := &p.fields[i]
		m.name = m.name[:prefix]
		if !alone {
			m.name = append(m.name, m.separator...)
			m.name = m.appendName(m.name, f.key)
		}
		m.set = append(m.set[:0], m.before...)
		if c := m.name[0]; m.sanitize && c >= '0' && c <= '9' {
			m.set = labels.Append(m.set, metricName, "_"+string(m.name))
		} else {
			m.set = labels.Append(m.set, metricNameBytes, m.name)
		}
		m.set = append(m.set, m.after...)
		b.Begin(m.set)
		b.Sample(0, t, f.value)
		b.End()
	}
	return nil
}

var metricNameBytes = []byte(metricName)

func (m *mapper) appendName(dst []byte, t text) []byte {
	if !m.sanitize || t.class&notName == 0 {
		return append(dst, t.b...)
	}
	return appendSanitized(dst, t.b, notName)
}

// labelsOf sorts the tags and the database and writes them in canonical form.
func (m *mapper) labelsOf(p *parser, db string) error {
	m.labels, m.arena = m.labels[:0], m.arena[:0]
	sorted, hasDB := true, false
	for i := range p.tags {
		t := &p.tags[i]
		l := label{t.key.b, t.value.b}
		if m.sanitize && (t.key.class&notLabel != 0 || l.name[0] >= '0' && l.name[0] <= '9') {
			start := len(m.arena)
			m.arena = appendLabelName(m.arena, l.name)
			l.name = m.arena[start:len(m.arena):len(m.arena)]
		}
		sorted = sorted && (i == 0 || string(m.labels[i-1].name) < string(l.name))
		hasDB = hasDB || string(l.name) == string(m.dbLabel)
		m.labels = append(m.labels, l)
	}
	if db != "" && len(m.dbLabel) > 0 && !hasDB {
		start := len(m.arena)
		m.arena = append(m.arena, db...)
		l := label{m.dbLabel, m.arena[start:len(m.arena):len(m.arena)]}
		if sorted {
			at, _ := slices.BinarySearchFunc(m.labels, l, compareLabels)
			m.labels = slices.Insert(m.labels, at, l)
		} else {
			m.labels = append(m.labels, l)
		}
	}
	if !sorted {
		slices.SortFunc(m.labels, compareLabels)
	}
	m.before, m.after = m.before[:0], m.after[:0]
	for i := range m.labels {
		l := &m.labels[i]
		if !sorted && i > 0 && bytes.Equal(l.name, m.labels[i-1].name) {
			return errDuplicateTags
		}
		switch {
		case string(l.name) < metricName:
			m.before = labels.Append(m.before, l.name, l.value)
		case string(l.name) == metricName:
			return errNameTag
		default:
			m.after = labels.Append(m.after, l.name, l.value)
		}
	}
	return nil
}

func compareLabels(a, b label) int { return bytes.Compare(a.name, b.name) }

// appendLabelName appends a name with "_" for every character that a label's
// name should not have.
func appendLabelName(dst, name []byte) []byte {
	if c := name[0]; c >= '0' && c <= '9' {
		dst = append(dst, '_')
	}
	return appendSanitized(dst, name, notLabel)
}

// appendSanitized appends b with "_" for every character of class bad.
func appendSanitized(dst, b []byte, bad uint8) []byte {
	for i := 0; i < len(b); {
		if classes[b[i]]&bad == 0 {
			dst = append(dst, b[i])
			i++
			continue
		}
		_, n := utf8.DecodeRune(b[i:])
		dst = append(dst, '_')
		i += n
	}
	return dst
}
