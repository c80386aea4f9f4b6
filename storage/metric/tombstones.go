package metric

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/index"
)

const tombstonesFile = "tombstones"

// interval is a range of times, both inclusive, in unix milliseconds.
type interval struct{ min, max int64 }

// deletion is a line of the tombstones file.
type deletion struct {
	Series []index.Ref `json:"series"`
	Min    int64       `json:"min"`
	Max    int64       `json:"max"`
}

// tombstones say which samples of a block are deleted. They are immutable: a
// further deletion makes new ones.
type tombstones struct {
	deletions []deletion
	byRef     map[index.Ref][]interval
}

// of returns what is deleted of ref; t may be nil.
func (t *tombstones) of(ref index.Ref) []interval {
	if t == nil {
		return nil
	}
	return t.byRef[ref]
}

func (t *tombstones) add(d deletion) {
	t.deletions = append(t.deletions, d)
	for _, r := range d.Series {
		t.byRef[r] = append(t.byRef[r], interval{d.Min, d.Max})
	}
}

func covered(ivs []interval, time int64) bool {
	for _, iv := range ivs {
		if time >= iv.min && time <= iv.max {
			return true
		}
	}
	return false
}

func readTombstones(fsys vfs.FS, dir string) (*tombstones, error) {
	name := filepath.Join(dir, tombstonesFile)
	b, err := vfs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read tombstones: %w", err)
	}
	t := &tombstones{byRef: make(map[index.Ref][]interval)}
	for line := range bytes.Lines(b) {
		var d deletion
		if err := json.Unmarshal(line, &d); err != nil {
			return nil, &block.CorruptionError{Block: dir, Reason: fmt.Sprintf("tombstones: %v", err)}
		}
		t.add(d)
	}
	return t, nil
}

// tombstone adds a deletion to the block, durably.
func (b *blockReader) tombstone(d deletion) error {
	t := &tombstones{byRef: make(map[index.Ref][]interval)}
	if old := b.tombstones.Load(); old != nil {
		for _, o := range old.deletions {
			t.add(o)
		}
	}
	t.add(d)
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	for _, d := range t.deletions {
		if err := enc.Encode(d); err != nil {
			return fmt.Errorf("write tombstones: %w", err)
		}
	}
	if err := vfs.WriteFile(b.fs, filepath.Join(b.Dir(), tombstonesFile), buf.Bytes()); err != nil {
		return fmt.Errorf("write tombstones: %w", err)
	}
	b.tombstones.Store(t)
	return nil
}
