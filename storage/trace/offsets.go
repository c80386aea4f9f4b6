package trace

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
)

// offsetsFile remembers what blocks covered that are gone: without it, a store
// whose last block went with its retention would ask the log for everything
// again.
const offsetsFile = "offsets.json"

// offsets is the content of offsetsFile.
type offsets struct {
	Version int            `json:"version"`
	Next    uint32         `json:"next"` // number of the next flush, at least
	Sources []block.Source `json:"sources"`
}

// readOffsets returns the offsets of a tenant; none if there is no file.
func readOffsets(fsys vfs.FS, dir string) (offsets, error) {
	name := filepath.Join(dir, offsetsFile)
	b, err := vfs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return offsets{}, nil
	}
	if err != nil {
		return offsets{}, fmt.Errorf("read offsets: %w", err)
	}
	var o offsets
	if err := json.Unmarshal(b, &o); err != nil {
		return offsets{}, fmt.Errorf("read offsets: %s: %w", name, err)
	}
	if o.Version > currentOriginVersion {
		return offsets{}, fmt.Errorf("read offsets: %s: version %d, want at most %d: %w", name, o.Version, currentOriginVersion, block.ErrVersion)
	}
	if o.Version < 1 {
		return offsets{}, fmt.Errorf("read offsets: %s: version %d", name, o.Version)
	}
	return o, nil
}

func (o *offsets) write(fsys vfs.FS, dir string) error {
	o.Version = currentOriginVersion
	b, err := json.Marshal(o)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return vfs.WriteFile(fsys, filepath.Join(dir, offsetsFile), append(b, '\n'))
}

// cover adds what a block that is about to go covers.
func (o *offsets) cover(b *Origin) {
	o.Next = max(o.Next, b.Last+1)
	for _, s := range b.Sources {
		o.Sources = block.AddSource(o.Sources, s)
	}
}
