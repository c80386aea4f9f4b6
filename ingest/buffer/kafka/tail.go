package kafka

import "github.com/vedette-io/vedette/ingest/buffer"

// tail keeps the messages that this process has produced with attachments, from
// their acknowledgement on, for one claim, its owner: by rising offset, with
// gaps where messages of others are, or of ours without an attachment.
type tail struct {
	owner    *claim
	entries  []tailEntry
	head     int // entries before it are taken
	bytes    int64
	maxBytes int64
}

type tailEntry struct {
	msg   buffer.Message // without its payload
	bytes int64          // of the payload
}

// maxNextBytes bounds the payload bytes behind what one Next returns.
const maxNextBytes = 4 << 20

// push keeps the record's attachment, unless nobody will ask for it or there is
// no room. Acknowledgements of a partition come in order.
func (t *tail) push(offset int64, r *buffer.Record) bool {
	n := int64(len(r.Payload))
	if t.owner == nil || offset < t.owner.pos || t.bytes+n > t.maxBytes {
		return false
	}
	if last := len(t.entries) - 1; last >= t.head && t.entries[last].msg.Offset >= offset {
		return false
	}
	if t.head > 0 && len(t.entries) == cap(t.entries) {
		kept := copy(t.entries, t.entries[t.head:])
		clear(t.entries[kept:])
		t.entries, t.head = t.entries[:kept], 0
	}
	e := tailEntry{buffer.Message{Offset: offset, Record: *r}, n}
	e.msg.Payload = nil
	t.entries = append(t.entries, e)
	t.bytes += n
	return true
}

// skipTo drops entries below offset and appends their attachments to dst.
func (t *tail) skipTo(offset int64, dst []any) []any {
	for t.head < len(t.entries) && t.entries[t.head].msg.Offset < offset {
		dst = append(dst, t.pop().Attachment)
	}
	return dst
}

// clear drops all entries and appends their attachments to dst.
func (t *tail) clear(dst []any) []any {
	for t.head < len(t.entries) {
		dst = append(dst, t.pop().Attachment)
	}
	return dst
}

// first returns the offset of the oldest entry.
func (t *tail) first() (int64, bool) {
	if t.head == len(t.entries) {
		return 0, false
	}
	return t.entries[t.head].msg.Offset, true
}

// take moves the run of entries that begins at offset to dst.
func (t *tail) take(offset int64, dst []buffer.Message) []buffer.Message {
	for bytes := int64(0); t.head < len(t.entries) && t.entries[t.head].msg.Offset == offset; offset++ {
		bytes += t.entries[t.head].bytes
		if len(dst) > 0 && bytes > maxNextBytes {
			break
		}
		dst = append(dst, t.pop())
	}
	return dst
}

func (t *tail) pop() buffer.Message {
	e := &t.entries[t.head]
	m := e.msg
	t.bytes -= e.bytes
	*e = tailEntry{}
	t.head++
	if t.head == len(t.entries) {
		t.entries, t.head = t.entries[:0], 0
	}
	return m
}
