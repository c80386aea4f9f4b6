package kafka

import "github.com/vedette-io/vedette/ingest/buffer"

// tail keeps the messages that this process has produced with attachments, from
// their acknowledgement on, for one claim, its owner.
type tail struct {
	owner *claim
	buffer.Tail
}

// push keeps the record's attachment, unless nobody will ask for it or there is
// no room. Acknowledgements of a partition come in order.
func (t *tail) push(offset int64, r *buffer.Record) bool {
	return t.owner != nil && offset >= t.owner.pos && t.Push(offset, r)
}
