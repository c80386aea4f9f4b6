package rows

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
)

// The ladder of versions of span blocks; docs/format/spans.md describes each.
const (
	version1       = 1
	currentVersion = version1
)

// Sections of a span block.
const (
	sectionRows      = "rows"      // the pages of every group, in order
	sectionGroups    = "groups"    // what each group has
	sectionBlooms    = "blooms"    // one page for each group that has filters
	sectionTraces    = "traces"    // traces in the order of their ids
	sectionColumns   = "columns"   // the columns of the space
	sectionStrings   = "strings"   // dictionaries
	sectionShapes    = "shapes"    // lists of columns, then shapes
	sectionProducers = "producers" // resources that each shape was seen with
	sectionScopes    = "scopes"
	sectionResources = "resources"
)

// pageKind is a page of a group. The numbers are bits of the group's header.
type pageKind uint8

const (
	pageShapeSet     pageKind = iota // shapes of any level in the group, rising: differences
	pageResourceSet                  // resources in the group, rising: differences
	pageShapes                       // of rows: place in the shape set
	pageResources                    // of rows: place among the shape's producers
	pageTraceIDs                     // 16 bytes each
	pageTraceRows                    // rows of each trace
	pageTraceStarts                  // start of each trace's first row: differences
	pageStarts                       // of rows: difference to the row before in the trace, 0 for the first
	pageDurations                    //
	pageStatuses                     //
	pageSpanIDs                      // 8 bytes each
	pageParents                      // of rows: see parentRoot
	pageParentIDs                    // 8 bytes for each parent elsewhere
	pageEvents                       // of rows: number of events
	pageEventShapes                  // place in the shape set
	pageEventTimes                   // difference to the span's start
	pageLinks                        // of rows: number of links
	pageLinkShapes                   // place in the shape set
	pageLinkSpanIDs                  // 8 bytes each
	pageLinkTraceIDs                 // 16 bytes each
	numPageKinds
)

// Values of pageParents. Others are 1 + the distance to a parent before the row,
// or minus the distance to one behind it.
const (
	parentRoot      = 0
	parentElsewhere = 1
)

// Pages of strings of an attribute column begin with one of these.
const (
	columnCodes = 0
	columnTexts = 1
)

const (
	groupsPerPage  = 64
	shapesPerPage  = 8192
	stringsPerPage = 4096
	stringsBytes   = 256 << 10 // of a page of strings
	// maxGroupValues bounds what a group has of anything but rows: values of a
	// column, events, links. Hostile numbers allocate no more.
	maxGroupValues = 1 << 24
	// A group is closed when its strings or values are as many, which is so far
	// below what a reader takes that no single span reaches it.
	closeGroupBytes  = 8 << 20
	closeGroupValues = 1 << 20
)

// Meta describes a block; it is the meta document of its container.
type Meta struct {
	Version  int   `json:"version"`
	Quick    bool  `json:"quick,omitempty"` // written for a short life
	Spans    int64 `json:"spans"`
	Traces   int64 `json:"traces"` // runs, if a trace is larger than a group
	Groups   int   `json:"groups"`
	Events   int64 `json:"events,omitempty"`
	Links    int64 `json:"links,omitempty"`
	Errors   int64 `json:"errors,omitempty"`
	MinStart int64 `json:"minStart"` // unix nanoseconds, of spans; 0 if there are none
	MaxStart int64 `json:"maxStart"`
	Shapes   int   `json:"shapes"`

	// Origin is the owner's: what the block was made of.
	Origin json.RawMessage `json:"origin,omitempty"`
}

func (m *Meta) encode() ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode meta: %w", err)
	}
	return b, nil
}

func decodeMeta(b []byte) (Meta, error) {
	var m Meta
	if err := json.Unmarshal(b, &m); err != nil {
		return Meta{}, fmt.Errorf("decode meta: %w", err)
	}
	if m.Groups < 0 || m.Shapes < 0 || m.Spans < 0 || m.Traces < 0 || m.Traces > math.MaxUint32 {
		return Meta{}, fmt.Errorf("decode meta: %d groups, %d shapes, %d spans, %d traces", m.Groups, m.Shapes, m.Spans, m.Traces)
	}
	return m, nil
}

// groupHead is what the groups section has of a group.
type groupHead struct {
	info  GroupInfo
	pages uint32 // bits of pageKind
	bloom bool

	columns []uint32 // rising
	counts  []uint32 // values of each

	// Set by the reader.
	firstPage int   // in the rows section, of the first page kind
	pageOf    []int // page of each column; those of AttrEmpty have none (-1)
	bloomPage int
	traceBase int // traces in the groups before
}

func (h *groupHead) append(dst []byte) []byte {
	i := &h.info
	for _, n := range []int{i.Rows, i.Traces, i.Events, i.Links, i.Errors} {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	dst = binary.AppendVarint(dst, i.MinStart)
	for _, t := range []int64{i.MaxStart, i.MinTraceStart, i.MaxTraceStart} {
		dst = binary.AppendVarint(dst, t-i.MinStart)
	}
	dst = binary.AppendVarint(dst, i.MinDuration)
	dst = binary.AppendVarint(dst, i.MaxDuration)
	dst = binary.AppendUvarint(dst, uint64(h.pages))
	flags := byte(0)
	if h.bloom {
		flags = 1
	}
	dst = append(dst, flags)
	dst = binary.AppendUvarint(dst, uint64(len(h.columns)))
	before := uint32(0)
	for k, c := range h.columns {
		dst = binary.AppendUvarint(dst, uint64(c-before))
		dst = binary.AppendUvarint(dst, uint64(h.counts[k]))
		before = c
	}
	return dst
}

// parser reads numbers and strings; its first fault sticks.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) uvarint() uint64 {
	v, n := binary.Uvarint(p.b)
	if n <= 0 {
		p.bad, p.b = true, nil
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) varint() int64 {
	v, n := binary.Varint(p.b)
	if n <= 0 {
		p.bad, p.b = true, nil
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) u8() byte {
	if len(p.b) == 0 {
		p.bad = true
		return 0
	}
	v := p.b[0]
	p.b = p.b[1:]
	return v
}

// count reads a number of things that take a byte each at least.
func (p *parser) count() int {
	n := p.uvarint()
	if n > uint64(len(p.b)) {
		p.bad, p.b = true, nil
		return 0
	}
	return int(n)
}

// number reads a number up to limit.
func (p *parser) number(limit int) int {
	n := p.uvarint()
	if limit < 0 || n > uint64(limit) {
		p.bad, p.b = true, nil
		return 0
	}
	return int(n)
}

// bytes reads a length and as many bytes.
func (p *parser) bytes() []byte {
	n := p.count()
	v := p.b[:n:n]
	p.b = p.b[n:]
	return v
}

func (p *parser) text() string { return string(p.bytes()) }

// ints reads a framed column of n values.
func readInts[T integer](p *parser, n int) []T {
	frame := p.bytes()
	if p.bad {
		return nil
	}
	c, err := parseInts(frame, n)
	if err != nil {
		p.bad = true
		return nil
	}
	out := make([]T, n)
	if err := decodeInts(out, &c, 0); err != nil {
		p.bad = true
	}
	return out
}

// appendFramed appends a column with its length in front.
func appendFramed[T integer](dst []byte, vals []T, e *intEncoder) []byte {
	e.frame = appendInts(e.frame[:0], vals, e)
	dst = binary.AppendUvarint(dst, uint64(len(e.frame)))
	return append(dst, e.frame...)
}

// parse reads a group's header. columns is how many the space has.
func (h *groupHead) parse(p *parser, columns int) error {
	i := &h.info
	i.Rows = p.number(MaxGroupRows)
	i.Traces = p.number(i.Rows)
	i.Events = p.number(maxGroupValues)
	i.Links = p.number(maxGroupValues)
	i.Errors = p.number(i.Rows)
	i.MinStart = p.varint()
	for _, t := range []*int64{&i.MaxStart, &i.MinTraceStart, &i.MaxTraceStart} {
		*t = i.MinStart + p.varint()
	}
	i.MinDuration, i.MaxDuration = p.varint(), p.varint()
	h.pages = uint32(p.number(1<<numPageKinds - 1))
	flags := p.u8()
	h.bloom = flags&1 == 1
	n := p.count()
	h.columns, h.counts = make([]uint32, n), make([]uint32, n)
	c := 0
	for k := range n {
		step := p.number(math.MaxInt32)
		c += step
		if k > 0 && step == 0 || c >= columns {
			p.bad = true
			break
		}
		h.columns[k], h.counts[k] = uint32(c), uint32(p.number(maxGroupValues))
	}
	if p.bad || flags > 1 || i.Rows == 0 || i.Traces == 0 {
		return fmt.Errorf("decode group: damaged header")
	}
	return nil
}

func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}
