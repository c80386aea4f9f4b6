package trace

import (
	"time"

	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// head is the mutable part of a tenant: a table, and what its block will say of
// it. The tenant's appendMu guards everything but the table, which guards itself.
// A head that flushes is no longer appended to.
type head struct {
	table      *rows.Table
	operations *operations
	from       map[block.SourceKey]int64 // lowest offset that the head has spans of
	covers     []block.Source            // once frozen: what the block will say it holds
	since      time.Time                 // of the first append
	last       time.Time                 // of the last one
	bytes      int64                     // as far as it is counted in DB.bytes
}

func newHead(now time.Time) *head {
	return &head{table: rows.NewTable(rows.DefaultConfig()), operations: newOperations(), from: make(map[block.SourceKey]int64), since: now}
}
