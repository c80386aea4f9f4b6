package kafka

import "encoding/binary"

// isFlexible says whether a version has tagged fields and compact lengths.
func (a *api) isFlexible(version int16) bool { return a.flexible >= 0 && version >= a.flexible }

// errorIn gives the error's code of a response, 0 if there is none, or none where
// it can be read.
func (w *waiting) errorIn(head []byte) int16 {
	a := &apis[w.key]
	b := fields{b: head[header+4:], ok: true, flexible: a.isFlexible(w.version)}
	if w.key != versions {
		b.tags()
	}
	if a.errorFrom >= 0 && w.version >= a.errorFrom && w.version <= a.errorTo {
		if a.throttle >= 0 && w.version >= a.throttle {
			b.int32()
		}
		if code := b.int16(); code != 0 || w.key != fetch {
			return code
		}
		b.int32() // the session
		return b.firstPartition(w.version >= 13)
	}
	switch w.key {
	case produce:
		return b.firstPartition(w.version >= 13)
	case fetch:
		if w.version >= 1 {
			b.int32()
		}
		return b.firstPartition(false)
	case listing:
		if w.version >= 2 {
			b.int32()
		}
		return b.firstPartition(false)
	case commit:
		if w.version >= 3 {
			b.int32()
		}
		return b.firstPartition(w.version >= 10)
	case creation:
		if w.version >= 2 {
			b.int32()
		}
		if b.array() <= 0 {
			return 0
		}
		b.string(b.flexible)
		if w.version >= 7 {
			b.skip(16)
		}
		return b.int16()
	}
	return 0
}

// fields reads the bytes of a message that were copied. Beyond their end it gives
// zeros.
type fields struct {
	b        []byte
	ok       bool // all that was read was there
	flexible bool
}

func (f *fields) skip(n int) []byte {
	if n < 0 || n > len(f.b) {
		f.b, f.ok = nil, false
		return nil
	}
	b := f.b[:n]
	f.b = f.b[n:]
	return b
}

func (f *fields) int16() int16 {
	if b := f.skip(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (f *fields) int32() int32 {
	if b := f.skip(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (f *fields) uvarint() int {
	v, n := binary.Uvarint(f.b)
	if n <= 0 || v > maxMessage {
		f.b, f.ok = nil, false
		return 0
	}
	f.b = f.b[n:]
	return int(v)
}

// string reads one that may be null.
func (f *fields) string(compact bool) []byte {
	n := 0
	if compact {
		n = f.uvarint() - 1
	} else {
		n = int(f.int16())
	}
	if n <= 0 {
		return nil
	}
	if n > len(f.b) { // the part that was copied
		b := f.b
		f.b, f.ok = nil, false
		return b
	}
	return f.skip(n)
}

// array gives how many elements follow.
func (f *fields) array() int {
	if f.flexible {
		return f.uvarint() - 1
	}
	return int(f.int32())
}

// tags passes over tagged fields.
func (f *fields) tags() {
	if !f.flexible {
		return
	}
	for range f.uvarint() {
		if !f.ok {
			return
		}
		f.uvarint()
		f.skip(f.uvarint())
	}
}

// firstPartition gives the error's code of the first partition of the first
// topic.
func (f *fields) firstPartition(byID bool) int16 {
	if f.array() <= 0 {
		return 0
	}
	if byID {
		f.skip(16)
	} else {
		f.string(f.flexible)
	}
	if f.array() <= 0 {
		return 0
	}
	f.int32()
	return f.int16()
}
