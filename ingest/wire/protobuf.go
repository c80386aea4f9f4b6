package wire

// Wire types of protobuf.
const (
	Varint     = 0
	Fixed64    = 1
	Bytes      = 2
	startGroup = 3
	endGroup   = 4
	Fixed32    = 5
)

// Uvarint decodes the varint at b[i:] and returns the index behind it, or -1 if
// it is cut short or longer than ten bytes. Bits above 64 are dropped, as the
// generated decoders of Prometheus do.
func Uvarint(b []byte, i int) (v uint64, next int) {
	if uint(i) < uint(len(b)) && b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	return UvarintLong(b, i)
}

// UvarintLong is Uvarint for a value that is likely to be long.
func UvarintLong(b []byte, i int) (v uint64, next int) {
	for shift := uint(0); shift < 64; shift += 7 {
		if i >= len(b) {
			return 0, -1
		}
		c := b[i]
		i++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, i
		}
	}
	return 0, -1
}

// Field decodes the tag at b[i:]; next is -1 if it is not a valid one.
func Field(b []byte, i int) (num int32, wire int, next int) {
	v, next := Uvarint(b, i)
	num, wire = int32(v>>3), int(v&7)
	if next < 0 || num <= 0 || wire == endGroup || wire > Fixed32 {
		return 0, 0, -1
	}
	return num, wire, next
}

// Span decodes the length at b[i:] of a length-delimited field and returns the
// bounds of its content; start is -1 if it does not fit.
func Span(b []byte, i int) (start, end int) {
	l, i := Uvarint(b, i)
	if i < 0 || l > uint64(len(b)-i) {
		return -1, -1
	}
	return i, i + int(l)
}

// Skip returns the index behind the value at b[i:] of a field with the given
// wire type, or -1.
func Skip(b []byte, i, wire int) int {
	depth := 0
	for {
		switch wire {
		case Varint:
			_, i = Uvarint(b, i)
		case Fixed64:
			i += 8
		case Bytes:
			_, i = Span(b, i)
		case startGroup:
			depth++
		case endGroup:
			depth--
		case Fixed32:
			i += 4
		default:
			return -1
		}
		if i < 0 || i > len(b) || depth < 0 {
			return -1
		}
		if depth == 0 {
			return i
		}
		var tag uint64
		if tag, i = Uvarint(b, i); i < 0 {
			return -1
		}
		wire = int(tag & 7)
	}
}

// Unzigzag32 decodes a sint32.
func Unzigzag32(v uint32) int32 { return int32(v>>1) ^ -int32(v&1) }

// Unzigzag64 decodes a sint64.
func Unzigzag64(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }
