package otlp

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/otlptranslator"

	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

// Bounds of what names remembers.
const (
	maxNames     = 4096
	maxNameBytes = 512
)

// names remembers how names are translated.
type names struct {
	metrics map[labels.Hash]*metricName
	labels  map[string][]byte
	target  *metricName // of target_info
	scratch []byte
}

// metricName is what is known of a metric by its name, unit, description and
// type.
type metricName struct {
	name   string // of Prometheus
	detail string // why there is none
	meta   signal.Metadata
	serial uint64 // of the decode that has told the metadata
}

// metricName translates the metric at hand. Its key is the identity of what goes
// into the name and the metadata.
func (r *Request) metricName() (*metricName, labels.Hash, error) {
	mt, n := &r.mt, &r.names
	b := append(n.scratch[:0], byte(mt.kind), boolByte(mt.monotonic), boolByte(mt.delta))
	for _, s := range [][]byte{mt.name, mt.unit} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = append(b, mt.description...)
	n.scratch = b
	key := with(r.seed, b)
	if m, ok := n.metrics[key]; ok {
		return m, key, nil
	}
	if err := r.budget.Charge(512 + 4*len(b)); err != nil {
		return nil, key, err
	}
	m := r.translateMetric()
	if len(b) <= maxNameBytes {
		if n.metrics == nil || len(n.metrics) >= maxNames {
			n.metrics = make(map[labels.Hash]*metricName)
		}
		n.metrics[key] = m
	}
	return m, key, nil
}

func (r *Request) translateMetric() *metricName {
	mt := &r.mt
	m := &metricName{}
	unit := string(mt.unit)
	name, err := r.set.metrics.Build(otlptranslator.Metric{Name: string(mt.name), Unit: unit, Type: mt.namerType()})
	switch {
	case err != nil:
		m.detail = err.Error()
	case name == "":
		m.detail = "the metric has no name"
	}
	m.name = name
	units := otlptranslator.UnitNamer{}
	m.meta = signal.Metadata{Family: name, Type: mt.promType(r.set.cfg.Delta), Unit: units.Build(unit), Help: string(mt.description)}
	if m.meta.Type == "unknown" && m.meta.Unit == "" && m.meta.Help == "" ||
		!utf8.ValidString(m.meta.Help) || !utf8.ValidString(m.meta.Unit) || !utf8.ValidString(name) {
		m.meta = signal.Metadata{}
	}
	return m
}

// addMetadata tells the metadata of a family unless this decode has done so.
func (r *Request) addMetadata(n *metricName) error {
	if n.serial == r.serial || n.meta.Family == "" {
		return nil
	}
	n.serial = r.serial
	m := &r.Metrics
	var err error
	if m.Metadata, err = wire.Grow(&r.budget, m.Metadata, 64); err != nil {
		return err
	}
	m.Metadata = append(m.Metadata, n.meta)
	return nil
}

// labelName translates the name of an attribute.
func (r *Request) labelName(key []byte) ([]byte, error) {
	n := &r.names
	if name, ok := n.labels[string(key)]; ok {
		return name, nil
	}
	if err := r.budget.Charge(64 + 4*len(key)); err != nil {
		return nil, err
	}
	s, err := r.set.labels.Build(string(key))
	if err != nil {
		return nil, &nameError{detail: err.Error()}
	}
	name := []byte(s)
	if len(key) <= maxNameBytes {
		if n.labels == nil || len(n.labels) >= maxNames {
			n.labels = make(map[string][]byte)
		}
		n.labels[strings.Clone(string(key))] = name
	}
	return name, nil
}

// nameError says that an attribute's name makes no label name.
type nameError struct{ detail string }

func (e *nameError) Error() string { return e.detail }

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}
