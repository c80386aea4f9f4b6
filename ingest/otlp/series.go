package otlp

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/labels"
)

const (
	metricLabel   = "__name__"
	jobLabel      = "job"
	instanceLabel = "instance"
)

// shape says which rows a point has.
type shape uint8

const (
	shapeSingle  shape = iota // one row, named as the metric
	shapeClassic              // base, _sum, _count, _bucket for every bound and +Inf
	shapeSummary              // base, _sum, _count, one for every quantile
	shapeTarget               // target_info of a resource
)

// extra is the label that tells the rows of a point apart.
func (s shape) extra() string {
	switch s {
	case shapeClassic:
		return "le"
	case shapeSummary:
		return "quantile"
	}
	return ""
}

// pair is an attribute on its way to a label. raw is the message it came in.
type pair struct{ name, key, value, raw []byte }

// fixedLabel is a label that all points of a resource and scope get. One that
// overrides replaces an attribute of the same name, even if its own value is
// empty; another one gives way.
type fixedLabel struct {
	name, value []byte
	overrides   bool
}

// builder makes the labels of a point that is not known yet.
type builder struct {
	last   []pair // attributes of the last point that was built, as they came
	pairs  []pair // attributes to merge, sorted by name: last or sorted
	sorted []pair
	vals   []byte // texts of attributes in last
	target []fixedLabel
	base   []fixedLabel
	fixed  bool // base is that of the resource and scope at hand
	fault  refusal

	resVals    []byte // texts of resource and scope attributes
	resBase    []fixedLabel
	resFixed   bool
	resFault   refusal
	scopeAttrs []attribute
	ranks      []byte    // of the summary at hand, eight bytes each
	quantiles  []float64 // their values
	fleeting   bool      // the bytes of last are about to be overwritten

	// seg holds the labels in canonical form without the metric's name, which
	// belongs at name. [extra, rest) is a label of the name shape.extra().
	seg               []byte
	name, extra, rest int
	m                 measures

	texts      []string // of textBounds
	textBounds []byte

	dense [2]denseBuckets
}

// refusal says why a point is refused.
type refusal struct {
	reason wire.Reason
	detail string
}

func (u *builder) newResource() {
	u.resFixed, u.fixed = false, false
	u.resVals, u.resBase, u.target = u.resVals[:0], u.resBase[:0], u.target[:0]
}

func (u *builder) newScope() { u.fixed = false }

func (u *builder) reset() {
	clear(u.base[:cap(u.base)])
	clear(u.resBase[:cap(u.resBase)])
	clear(u.target[:cap(u.target)])
	clear(u.scopeAttrs[:cap(u.scopeAttrs)])
	clear(u.last[:cap(u.last)])
	clear(u.sorted[:cap(u.sorted)])
	u.last, u.sorted, u.pairs = u.last[:0], u.sorted[:0], nil
	u.vals = u.vals[:0]
	u.base, u.resBase, u.target = u.base[:0], u.resBase[:0], u.target[:0]
}

func (u *builder) capBytes() int {
	return 96*(cap(u.last)+cap(u.sorted)) + cap(u.vals) + cap(u.resVals) + 56*(cap(u.base)+cap(u.resBase)+cap(u.target)) + cap(u.ranks) + 8*cap(u.quantiles) +
		cap(u.seg) + 16*cap(u.texts) + cap(u.textBounds) + 8*(cap(u.dense[0].counts)+cap(u.dense[1].counts))
}

// rowsOf returns the rows of the point at hand; none says that it has been
// refused. attrs are its attribute fields, which begin at the given offset.
func (r *Request) rowsOf(key labels.Hash, s shape, attrs []byte, at int) ([]series, error) {
	e := r.cache.find(key)
	if e != nil && r.fits(e.measures) {
		return r.cache.rows[e.first : e.first+e.n], nil
	}
	if err := r.pointPairs(attrs, at); err != nil {
		return r.refuseBuild(err)
	}
	if err := r.fixLabels(); err != nil {
		return nil, err
	}
	u := &r.build
	if u.fault.reason != wire.ReasonNone {
		r.refusePoint(u.fault.reason, u.fault.detail)
		return nil, nil
	}
	if err := r.merge(u.base, s); err != nil {
		return r.refuseBuild(err)
	}
	return r.writeRows(key, s, e == nil)
}

// refuseBuild refuses the point at hand for what is wrong with its labels; other
// errors end the decode.
func (r *Request) refuseBuild(err error) ([]series, error) {
	var name *nameError
	var label *labelError
	switch {
	case errors.As(err, &name):
		r.refusePoint(wire.ReasonEmptyLabelName, name.detail)
	case errors.As(err, &label):
		r.refusePoint(label.reason, label.detail)
	default:
		return nil, err
	}
	return nil, nil
}

// labelError says that a label set is not valid.
type labelError refusal

func (e *labelError) Error() string { return e.detail }

// fits reports whether a point's rows are within the limits.
func (r *Request) fits(m measures) bool {
	l := &r.limits
	return (l.MaxLabels == 0 || m.labels <= uint32(l.MaxLabels)) &&
		(l.MaxLabelNameBytes == 0 || m.name <= uint32(l.MaxLabelNameBytes)) &&
		(l.MaxLabelValueBytes == 0 || m.value <= uint32(l.MaxLabelValueBytes))
}

// pointPairs gathers the attributes of a point, whose fields have tags of one
// byte, in r.build.pairs. Most of them tend to be those of the point before.
func (r *Request) pointPairs(attrs []byte, at int) error {
	const manyVals = 64 << 10
	u := &r.build
	if u.fleeting || len(u.vals) > manyVals {
		u.last, u.vals = u.last[:0], u.vals[:0]
	}
	u.fleeting = r.pt.isScattered
	n := 0
	for i := 0; i < len(attrs); n++ {
		s, e := content(attrs, i)
		raw := attrs[s:e]
		i = e
		if n < len(u.last) && string(u.last[n].raw) == string(raw) {
			continue
		}
		p, err := r.parsePair(raw, at+s, n)
		if err != nil {
			u.last = u.last[:min(n, len(u.last))]
			return err
		}
		if n < len(u.last) {
			u.last[n] = p
			continue
		}
		if u.last, err = wire.Grow(&r.budget, u.last, 96); err != nil {
			return err
		}
		u.last = append(u.last, p)
	}
	u.last = u.last[:n]
	u.pairs = u.last
	return r.sortPairs()
}

// parsePair parses the n-th attribute of a point.
func (r *Request) parsePair(raw []byte, at, n int) (pair, error) {
	u := &r.build
	p := pair{raw: raw}
	key, val, err := r.keyValue(raw, at)
	if err != nil {
		return p, err
	}
	if p.value, err = r.text(val, at, &u.vals); err != nil {
		return p, err
	}
	p.name, p.key = key, key
	switch {
	case string(key) == metricLabel:
		p.value = nil // the metric's own name counts
	case r.set.utf8:
	case n < len(u.last) && bytes.Equal(u.last[n].key, key):
		p.name = u.last[n].name
	default:
		p.name, err = r.labelName(key)
	}
	return p, err
}

// sortPairs sorts r.build.pairs by name, in another place. Values of keys that
// have become one name are joined in order of the keys.
func (r *Request) sortPairs() error {
	u := &r.build
	inOrder := true
	for i := 1; i < len(u.pairs) && inOrder; i++ {
		inOrder = string(u.pairs[i-1].name) < string(u.pairs[i].name)
	}
	if inOrder {
		return nil
	}
	var err error
	if u.sorted, err = grow(&r.budget, u.sorted[:0], len(u.pairs), 96); err != nil {
		return err
	}
	u.sorted = append(u.sorted, u.pairs...)
	u.pairs = u.sorted
	slices.SortStableFunc(u.pairs, func(a, b pair) int {
		if c := bytes.Compare(a.name, b.name); c != 0 {
			return c
		}
		return bytes.Compare(a.key, b.key)
	})
	out := u.pairs[:0]
	for i := 0; i < len(u.pairs); {
		p := u.pairs[i]
		j := i + 1
		for ; j < len(u.pairs) && bytes.Equal(u.pairs[j].name, p.name); j++ {
		}
		if j > i+1 {
			if p.value, err = r.joinValues(u.pairs[i:j]); err != nil {
				return err
			}
		}
		out = append(out, p)
		i = j
	}
	u.pairs = out
	return nil
}

// joinValues makes one value of those of several attributes.
func (r *Request) joinValues(same []pair) ([]byte, error) {
	if r.set.utf8 {
		// Nothing is escaped, so it is one attribute several times. Prometheus
		// drops it if a value is empty, and else makes a series that it refuses.
		if slices.ContainsFunc(same, func(p pair) bool { return len(p.value) == 0 }) {
			return nil, nil
		}
		return nil, &labelError{wire.ReasonDuplicateLabel, fmt.Sprintf("attribute %.64q occurs twice", same[0].key)}
	}
	var value []byte
	for _, p := range same {
		if len(value) > 0 {
			value = append(append(value, ';'), p.value...)
		} else {
			value = append(value, p.value...)
		}
	}
	return value, r.budget.Charge(len(value))
}

// merge writes the attributes in r.build.pairs and the fixed labels, both sorted,
// to r.build.seg.
func (r *Request) merge(fixed []fixedLabel, s shape) error {
	u := &r.build
	u.seg, u.m = u.seg[:0], measures{labels: 1}
	u.name, u.extra, u.rest = -1, -1, -1
	extra := s.extra()
	if extra != "" {
		u.m.labels++
	}
	i, j := 0, 0
	for i < len(u.pairs) || j < len(fixed) {
		var name, value []byte
		c := -1
		switch {
		case i == len(u.pairs):
			c = 1
		case j < len(fixed):
			c = bytes.Compare(u.pairs[i].name, fixed[j].name)
		}
		if c <= 0 {
			name, value = u.pairs[i].name, u.pairs[i].value
			i++
		}
		if c >= 0 {
			if f := &fixed[j]; c > 0 || f.overrides || len(value) == 0 {
				name, value = f.name, f.value
			}
			j++
		}
		if len(value) == 0 {
			continue
		}
		if err := r.addLabel(name, value, extra); err != nil {
			return err
		}
	}
	if u.name < 0 {
		u.name = len(u.seg)
	}
	if u.extra < 0 {
		u.extra = len(u.seg)
	}
	if u.rest < 0 {
		u.rest = u.extra
	}
	return checkUTF8(u.seg)
}

// checkUTF8 reports a label that is not valid UTF-8.
func checkUTF8(canonical []byte) error {
	if utf8.Valid(canonical) {
		return nil // lengths of two bytes may make it fail
	}
	for len(canonical) > 0 {
		name, value, rest, err := labels.Next(canonical)
		if err != nil {
			return err
		}
		if !utf8.Valid(name) {
			return &labelError{wire.ReasonInvalidUTF8, fmt.Sprintf("name of label %.64q is not valid UTF-8", name)}
		}
		if !utf8.Valid(value) {
			return &labelError{wire.ReasonInvalidUTF8, fmt.Sprintf("value of label %.64q is not valid UTF-8", name)}
		}
		canonical = rest
	}
	return nil
}

// addLabel appends the next label to r.build.seg.
func (r *Request) addLabel(name, value []byte, extra string) error {
	u := &r.build
	if u.name < 0 && string(name) >= metricLabel {
		u.name = len(u.seg)
	}
	if string(name) == metricLabel {
		return nil // the metric's own name counts
	}
	isExtra := false
	if extra != "" && u.extra < 0 && string(name) >= extra {
		u.extra = len(u.seg)
		isExtra = string(name) == extra
	}
	if len(name) == 0 {
		return &labelError{wire.ReasonEmptyLabelName, "an attribute has an empty name"}
	}
	size := labels.Size(len(name), len(value))
	if cap(u.seg)-len(u.seg) < size {
		var err error
		if u.seg, err = grow(&r.budget, u.seg, size, 1); err != nil {
			return err
		}
	}
	u.seg = appendLabel(u.seg, name, value)
	u.m.name, u.m.value = max(u.m.name, uint32(len(name))), max(u.m.value, uint32(len(value)))
	if isExtra {
		u.rest = len(u.seg)
	} else {
		u.m.labels++
	}
	return nil
}

// appendLabel is labels.Append, in place for short labels.
func appendLabel(dst, name, value []byte) []byte {
	n := 4 + len(name) + len(value)
	if n >= 0x80 {
		return labels.Append(dst, name, value)
	}
	dst = append(dst, 0x0a, byte(n), 0x0a, byte(len(name)))
	dst = append(dst, name...)
	dst = append(dst, 0x12, byte(len(value)))
	return append(dst, value...)
}
