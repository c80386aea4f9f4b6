package trace

import (
	"errors"
	"time"

	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// blockFile is an open block. Views and merges share it.
type blockFile struct {
	block.Shared
	rows   *rows.Block
	origin Origin

	shortest, longest time.Duration // retention of its services; set by the tenant
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
	b := &blockFile{rows: r, origin: o}
	b.Share(fs, dir, r)
	return b, nil
}

func (b *blockFile) spans() int { return int(b.rows.Meta().Spans) }

// weight is how many spans the block counts for in plans of merges: more than it
// has where nearly each is named differently, since a merge keeps all shapes in
// memory.
func (b *blockFile) weight() int {
	const perShape = 4
	return max(b.spans(), perShape*b.rows.Meta().Shapes)
}

func (b *blockFile) size() int64 { return b.rows.Size() }
