package trace

import (
	"encoding/json"
	"fmt"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/storage/block"
)

// The ladder of origin versions; docs/format/trace.md describes each.
const (
	originVersion1       = 1
	currentOriginVersion = originVersion1
)

// Origin is what the store notes of a block beside what package rows does:
// where its spans come from. It is the origin document of the block's meta.
type Origin struct {
	Version int `json:"version"`

	block.Flushes
	Level int `json:"level"` // how often the spans have been merged

	MinArrival int64 `json:"minArrival"` // unix milliseconds
	MaxArrival int64 `json:"maxArrival"`

	Sources []block.Source `json:"sources"`

	// Decided says that tail sampling has been asked about the traces of the block.
	Decided bool `json:"decided,omitempty"`
	// Dropped are the ids, 16 bytes each, of traces that tail sampling dropped
	// while other blocks or the head still had spans of them.
	Dropped []byte `json:"dropped,omitempty"`

	// Services are those that the block has spans of. A rewrite may leave ones in
	// that it has lost the last span of.
	Services []ServiceOperations `json:"services"`
	// Partial says that there were too many services or operations to list.
	Partial bool `json:"partial,omitempty"`
}

// ServiceOperations are the operations of one service.
type ServiceOperations struct {
	Service    string      `json:"service"`
	Operations []Operation `json:"operations"`
}

func (o *Origin) encode() []byte {
	o.Version = currentOriginVersion
	b, err := json.Marshal(o)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return b
}

// decodeOrigin returns the origin of the block in dir. A newer version gives
// block.ErrVersion, anything else that is wrong a CorruptionError.
func decodeOrigin(dir string, b []byte) (Origin, error) {
	var o Origin
	corrupt := func(format string, args ...any) error {
		return &block.CorruptionError{Block: dir, Reason: "decode origin: " + fmt.Sprintf(format, args...)}
	}
	if err := json.Unmarshal(b, &o); err != nil {
		return Origin{}, corrupt("%v", err)
	}
	if o.Version > currentOriginVersion {
		return Origin{}, fmt.Errorf("decode origin of block %s: version %d, want at most %d: %w", dir, o.Version, currentOriginVersion, block.ErrVersion)
	}
	if o.Version < 1 || o.Last < o.First || o.MaxArrival < o.MinArrival || o.Level < 0 || len(o.Dropped)%len(signal.TraceID{}) != 0 {
		return Origin{}, corrupt("version %d, flushes %d to %d, arrival %d to %d, level %d, %d bytes of ids", o.Version, o.First, o.Last, o.MinArrival, o.MaxArrival, o.Level, len(o.Dropped))
	}
	return o, nil
}

// dropped calls f with the ids of o.Dropped.
func (o *Origin) eachDropped(f func(signal.TraceID)) {
	for b := o.Dropped; len(b) > 0; b = b[len(signal.TraceID{}):] {
		f(signal.TraceID(b[:len(signal.TraceID{})]))
	}
}
