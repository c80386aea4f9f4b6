package trace

import (
	"errors"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// blockFile is an open block. Views and merges share it; the last to unpin it
// closes the file, and deletes the directory if the block has been replaced
// meanwhile.
type blockFile struct {
	rows   *rows.Block
	origin Origin
	dir    string
	fs     vfs.FS

	shortest, longest time.Duration // retention of its services; set by the tenant

	pins    atomic.Int32
	dropped atomic.Bool
}

func openBlock(fs vfs.FS, dir string) (*blockFile, error) {
	r, err := rows.Open(fs, dir)
	if err != nil {
		return nil, err
	}
	o, err := decodeOrigin(dir, r.Meta().Origin)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	intern(o.Services)
	b := &blockFile{rows: r, origin: o, dir: dir, fs: fs}
	b.pins.Store(1)
	return b, nil
}

func (b *blockFile) pin() { b.pins.Add(1) }

func (b *blockFile) unpin() error {
	if b.pins.Add(-1) > 0 {
		return nil
	}
	err := b.rows.Close()
	if b.dropped.Load() {
		err = errors.Join(err, block.Remove(b.fs, b.dir))
	}
	return err
}

func (b *blockFile) name() string { return filepath.Base(b.dir) }

func (b *blockFile) spans() int { return int(b.rows.Meta().Spans) }

// weight is how many spans the block counts for in plans of merges: more than it
// has where nearly each is named differently, since a merge keeps all shapes in
// memory.
func (b *blockFile) weight() int {
	const perShape = 4
	return max(b.spans(), perShape*b.rows.Meta().Shapes)
}

func (b *blockFile) size() int64 { return b.rows.Size() }
