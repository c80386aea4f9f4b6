package metric

import (
	"encoding/json"
	"fmt"

	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/encoding"
	"github.com/vedette-io/vedette/storage/index"
)

// The ladder of metric block versions; docs/format/metric.md describes each.
const (
	metaVersion1       = 1
	currentMetaVersion = metaVersion1
)

// Sections of a metric block.
const (
	sectionPairs     = "pairs"
	sectionSeries    = "series"
	sectionTimes     = "times"
	sectionChunks    = "chunks"
	sectionValues    = "values"
	sectionKeys      = "keys"
	sectionExemplars = "exemplars"
	sectionMetadata  = "metadata"
)

const (
	// chunkSamples is how many samples of a chunk or of a sub-block of
	// timestamps are coded together, and so decoded together.
	chunkSamples = 120
	// maxConstant is how many samples a chunk of equal values may have.
	maxConstant = encoding.MaxValues
	// inlineBytes is the longest payload that stands in the chunks page itself.
	inlineBytes = 8

	// settledLevel is the level from which on blocks are encoded as small as can
	// be; below, they will soon be merged again, and quickly is better.
	settledLevel = 2

	entriesPerPage   = 256
	seriesPerPage    = 4096
	exemplarsPerPage = 4096
	targetPageBytes  = 64 << 10
)

// kind says what the chunks of an entry hold.
type kind uint8

const (
	kindFloats     kind = 0
	kindHistograms kind = 1
	kindStarts     kind = 2
)

// key orders the entries of a block.
type key struct {
	family index.Family
	ref    index.Ref
	kind   kind
}

func (k key) less(o key) bool {
	if k.family != o.family {
		return k.family < o.family
	}
	if k.ref != o.ref {
		return k.ref < o.ref
	}
	return k.kind < o.kind
}

// Meta describes a block; it is the meta document of its container.
type Meta struct {
	Version     int   `json:"version"`
	WindowStart int64 `json:"windowStart"` // unix milliseconds
	WindowMs    int64 `json:"windowMs"`

	block.Flushes
	Level int `json:"level"` // how often the samples have been merged

	MinTime int64 `json:"minTime"` // unix milliseconds
	MaxTime int64 `json:"maxTime"`

	Samples    int64 `json:"samples"` // floats and histograms
	Histograms int64 `json:"histograms,omitempty"`
	Starts     int64 `json:"starts,omitempty"` // samples with a start timestamp
	Entries    int64 `json:"entries"`          // series, counted once for each kind of sample
	Chunks     int64 `json:"chunks"`
	Exemplars  int64 `json:"exemplars,omitempty"`

	FirstPair   uint32 `json:"firstPair"`
	Pairs       uint32 `json:"pairs"`
	FirstSeries uint32 `json:"firstSeries"`
	Series      uint32 `json:"series"`

	Sources []block.Source `json:"sources"`
}

func (m *Meta) encode() []byte {
	b, err := json.Marshal(m)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return b
}

func decodeMeta(b []byte) (Meta, error) {
	var m Meta
	if err := json.Unmarshal(b, &m); err != nil {
		return Meta{}, fmt.Errorf("decode meta: %w", err)
	}
	if m.Version > currentMetaVersion {
		return Meta{}, fmt.Errorf("decode meta: version %d, want at most %d: %w", m.Version, currentMetaVersion, block.ErrVersion)
	}
	if m.Version < 1 || m.Last < m.First || m.WindowMs <= 0 {
		return Meta{}, fmt.Errorf("decode meta: version %d, flushes %d to %d, window of %d ms", m.Version, m.First, m.Last, m.WindowMs)
	}
	return m, nil
}
