package buffer

// Tail keeps the attachments of recent records in memory, so that a consumer of
// the same process need not read and decode them again: by rising offset, with
// gaps where there is nothing to keep. Implementations of Buffer share it; it is
// used under their lock.
type Tail struct {
	MaxBytes int64 // of payloads behind the entries

	entries []tailEntry
	head    int // entries before it are taken
	bytes   int64
}

type tailEntry struct {
	msg   Message // without its payload
	bytes int64   // of the payload
}

// MaxNextBytes bounds the payload bytes behind what one Next returns.
const MaxNextBytes = 4 << 20

// Push keeps the record, unless there is no room or its offset does not rise.
func (t *Tail) Push(offset int64, r *Record) bool {
	n := int64(len(r.Payload))
	if t.bytes+n > t.MaxBytes {
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
	e := tailEntry{Message{Offset: offset, Record: *r}, n}
	e.msg.Payload = nil
	t.entries = append(t.entries, e)
	t.bytes += n
	return true
}

// SkipTo drops entries below offset and appends their attachments to dst.
func (t *Tail) SkipTo(offset int64, dst []any) []any {
	for t.head < len(t.entries) && t.entries[t.head].msg.Offset < offset {
		dst = append(dst, t.pop().Attachment)
	}
	return dst
}

// Clear drops all entries and appends their attachments to dst.
func (t *Tail) Clear(dst []any) []any {
	for t.head < len(t.entries) {
		dst = append(dst, t.pop().Attachment)
	}
	return dst
}

// First returns the offset of the oldest entry.
func (t *Tail) First() (int64, bool) {
	if t.head == len(t.entries) {
		return 0, false
	}
	return t.entries[t.head].msg.Offset, true
}

// Take moves the run of entries that begins at offset to dst.
func (t *Tail) Take(offset int64, dst []Message) []Message {
	for bytes := int64(0); t.head < len(t.entries) && t.entries[t.head].msg.Offset == offset; offset++ {
		bytes += t.entries[t.head].bytes
		if len(dst) > 0 && bytes > MaxNextBytes {
			break
		}
		dst = append(dst, t.pop())
	}
	return dst
}

func (t *Tail) pop() Message {
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

// tail is the Tail of a partition for one claim, its owner. What it lacks is
// read from disk.
type tail struct {
	owner *claim
	Tail
}

// push keeps the record, unless nobody wants it or there is no room.
func (t *tail) push(offset int64, r *Record) bool { return t.owner != nil && t.Push(offset, r) }
