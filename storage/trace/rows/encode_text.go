package rows

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"strconv"

	"github.com/klauspost/compress/zstd"
)

// Forms of a column of strings. What all of them begin with is kept once.
const (
	textFrames  = 0 // lengths, and zstd frames of some values each
	textDecimal = 1 // decimal numbers: a column of integers
	textHex     = 2 // lower case hexadecimal digits of one length: half as many bytes
)

const (
	// frameBytes is about how many bytes of strings are compressed together: a
	// reader that wants one string decompresses as many.
	frameBytes = 32 << 10
	// maxTextBytes bounds the bytes of one column in one group.
	maxTextBytes = 1 << 27
	// maxDecimal is how many digits always fit an int64.
	maxDecimal = 18
)

// Encoders and the decoder are shared: EncodeAll and DecodeAll are safe for
// concurrent use and keep no state.
var (
	denseText   = newTextEncoder(zstd.SpeedDefault)
	quickText   = newTextEncoder(zstd.SpeedFastest)
	textDecoder = newTextDecoder()
)

func newTextEncoder(level zstd.EncoderLevel) *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(2), zstd.WithEncoderLevel(level), zstd.WithEncoderCRC(false),
		zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(1<<18), zstd.WithSingleSegment(true))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return e
}

func newTextDecoder() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxTextBytes), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return d
}

// textEncoder encodes columns of strings; one goroutine's.
type textEncoder struct {
	quick   bool
	ints    intEncoder
	numbers []int64
	lengths []uint32
	inner   []byte
	frame   []byte
}

// append appends the column of values data[offs[i]:offs[i+1]].
func (e *textEncoder) append(dst []byte, offs []uint32, data []byte) []byte {
	n := len(offs) - 1
	if n <= 0 {
		return dst
	}
	prefix := commonPrefix(offs, data)
	if digits, ok := e.decimals(offs, data, prefix); ok {
		dst = appendPrefix(append(dst, textDecimal), data[offs[0]:], prefix)
		return appendInts(append(dst, byte(digits)), e.numbers, &e.ints)
	}
	if length, ok := hexLength(offs, data, prefix); ok {
		dst = appendPrefix(append(dst, textHex), data[offs[0]:], prefix)
		dst = binary.AppendUvarint(dst, uint64(length/2))
		for i := range n {
			dst, _ = hex.AppendDecode(dst, data[int(offs[i])+prefix:offs[i+1]])
		}
		return dst
	}
	return e.appendFrames(appendPrefix(append(dst, textFrames), data[offs[0]:], prefix), offs, data, prefix)
}

func appendPrefix(dst, first []byte, prefix int) []byte {
	dst = binary.AppendUvarint(dst, uint64(prefix))
	return append(dst, first[:prefix]...)
}

func commonPrefix(offs []uint32, data []byte) int {
	first := data[offs[0]:offs[1]]
	p := min(len(first), 1<<12)
	for i := 1; i < len(offs)-1 && p > 0; i++ {
		v := data[offs[i]:offs[i+1]]
		p = min(p, len(v))
		if bytes.Equal(v[:p], first[:p]) {
			continue
		}
		k := 0
		for v[k] == first[k] {
			k++
		}
		p = k
	}
	return p
}

// decimals puts the values behind prefix into e.numbers if they are decimal
// numbers; digits is their common length, 0 if they have no leading zeros.
func (e *textEncoder) decimals(offs []uint32, data []byte, prefix int) (digits int, ok bool) {
	n := len(offs) - 1
	e.numbers = grown(e.numbers, n)
	same, zeros := int(offs[1]-offs[0])-prefix, false
	for i := range n {
		v := data[int(offs[i])+prefix : offs[i+1]]
		if len(v) == 0 || len(v) > maxDecimal {
			return 0, false
		}
		var x int64
		for _, c := range v {
			if c < '0' || c > '9' {
				return 0, false
			}
			x = x*10 + int64(c-'0')
		}
		e.numbers[i] = x
		if len(v) != same {
			same = 0
		}
		zeros = zeros || len(v) > 1 && v[0] == '0'
		if zeros && same == 0 {
			return 0, false
		}
	}
	if !zeros {
		return 0, true
	}
	return same, true
}

func hexLength(offs []uint32, data []byte, prefix int) (int, bool) {
	length := int(offs[1]-offs[0]) - prefix
	if length == 0 || length&1 == 1 {
		return 0, false
	}
	for i := range len(offs) - 1 {
		v := data[int(offs[i])+prefix : offs[i+1]]
		if len(v) != length {
			return 0, false
		}
		for _, c := range v {
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return 0, false
			}
		}
	}
	return length, true
}

func (e *textEncoder) appendFrames(dst []byte, offs []uint32, data []byte, prefix int) []byte {
	n := len(offs) - 1
	e.lengths = grown(e.lengths, n)
	for i := range n {
		e.lengths[i] = offs[i+1] - offs[i] - uint32(prefix)
	}
	e.inner = appendInts(e.inner[:0], e.lengths, &e.ints)
	dst = binary.AppendUvarint(dst, uint64(len(e.inner)))
	dst = append(dst, e.inner...)
	average := max((int(offs[n]-offs[0])-n*prefix)/n, 1)
	shift := max(bits.Len(uint(frameBytes/average))-1, 0)
	dst = append(dst, byte(shift))
	encoder := denseText
	if e.quick {
		encoder = quickText
	}
	bodies := e.inner[:0]
	for first := 0; first < n; first += 1 << shift {
		end := min(first+1<<shift, n)
		e.frame = e.frame[:0]
		for i := first; i < end; i++ {
			e.frame = append(e.frame, data[int(offs[i])+prefix:offs[i+1]]...)
		}
		start := len(bodies)
		bodies = encoder.EncodeAll(e.frame, bodies)
		if stored := len(bodies) - start; stored < len(e.frame)-len(e.frame)/16 {
			dst = binary.AppendUvarint(dst, uint64(stored)<<1|1)
			continue
		}
		bodies = append(bodies[:start], e.frame...)
		dst = binary.AppendUvarint(dst, uint64(len(e.frame))<<1)
	}
	e.inner = bodies
	return append(dst, bodies...)
}

// textBuffers are the buffers that decoded strings go to.
type textBuffers struct {
	offs    []uint32
	data    []byte
	numbers []int64
}

// decodeTexts decodes the values [lo:hi) of the column of n values that src
// holds: value lo+i is data[offs[i]:offs[i+1]] of t.
func (t *textBuffers) decode(src []byte, n, lo, hi int) error {
	t.offs = append(grown(t.offs, hi-lo+1)[:0], 0)
	t.data = t.data[:0]
	if n == 0 && len(src) == 0 {
		return nil
	}
	if len(src) == 0 {
		return badColumn("no bytes for %d strings", n)
	}
	form := src[0]
	length, used := binary.Uvarint(src[1:])
	if used <= 0 || length > uint64(len(src)-1-used) {
		return badColumn("prefix cut short")
	}
	prefix := src[1+used : 1+used+int(length)]
	if len(prefix)*(hi-lo) > maxTextBytes {
		return badColumn("prefix of %d bytes for %d strings", len(prefix), hi-lo)
	}
	src = src[1+used+int(length):]
	switch form {
	case textDecimal:
		return t.decodeDecimals(src, prefix, n, lo, hi)
	case textHex:
		return t.decodeHex(src, prefix, n, lo, hi)
	case textFrames:
		return t.decodeFrames(src, prefix, n, lo, hi)
	}
	return badColumn("unknown form %d of strings", form)
}

func (t *textBuffers) decodeDecimals(src, prefix []byte, n, lo, hi int) error {
	if len(src) == 0 || src[0] > maxDecimal {
		return badColumn("bad length of decimals")
	}
	digits := int(src[0])
	c, err := parseInts(src[1:], n)
	if err != nil {
		return err
	}
	t.numbers = grown(t.numbers, hi-lo)
	if err := decodeInts(t.numbers, &c, lo); err != nil {
		return err
	}
	for _, v := range t.numbers {
		t.data = append(t.data, prefix...)
		start := len(t.data)
		t.data = strconv.AppendInt(t.data, v, 10)
		if pad := digits - (len(t.data) - start); pad > 0 {
			t.data = append(t.data, "000000000000000000"[:pad]...)
			copy(t.data[start+pad:], t.data[start:])
			copy(t.data[start:], "000000000000000000"[:pad])
		}
		t.offs = append(t.offs, uint32(len(t.data)))
	}
	return nil
}

func (t *textBuffers) decodeHex(src, prefix []byte, n, lo, hi int) error {
	length, used := binary.Uvarint(src)
	if used <= 0 || length > uint64(len(src)) || uint64(len(src)-used) != length*uint64(n) {
		return badColumn("%d bytes for %d hexadecimal strings", len(src), n)
	}
	src = src[used:]
	for i := lo; i < hi; i++ {
		t.data = append(t.data, prefix...)
		t.data = hex.AppendEncode(t.data, src[i*int(length):(i+1)*int(length)])
		t.offs = append(t.offs, uint32(len(t.data)))
	}
	return nil
}

func (t *textBuffers) decodeFrames(src, prefix []byte, n, lo, hi int) error {
	size, used := binary.Uvarint(src)
	if used <= 0 || size >= uint64(len(src)-used) {
		return badColumn("lengths cut short")
	}
	c, err := parseInts(src[used:used+int(size)], n)
	if err != nil {
		return err
	}
	src = src[used+int(size):]
	shift := uint(src[0])
	if shift > 20 {
		return badColumn("frames of 2^%d values", shift)
	}
	src = src[1:]
	per := 1 << shift
	frames := (n + per - 1) >> shift
	if frames > len(src) {
		return badColumn("%d bytes for %d frames", len(src), frames)
	}
	// The stored lengths of all frames, and where the first one that is wanted is.
	firstFrame := lo >> shift
	sizes := src
	total, skip := uint64(0), uint64(0)
	for f := range frames {
		v, used := binary.Uvarint(src)
		if used <= 0 || v>>1 > maxTextBytes {
			return badColumn("frame length cut short")
		}
		if f < firstFrame {
			sizes = src[used:]
			skip += v >> 1
		}
		total += v >> 1
		src = src[used:]
	}
	if total != uint64(len(src)) {
		return badColumn("%d bytes of frames, want %d", len(src), total)
	}
	bodies := src[skip:]
	for first := firstFrame << shift; first < hi; first += per {
		m := min(n-first, per)
		t.numbers = grown(t.numbers, m)
		if err := decodeInts(t.numbers, &c, first); err != nil {
			return err
		}
		v, used := binary.Uvarint(sizes)
		sizes = sizes[used:]
		if err := t.appendFrame(bodies[:v>>1], v&1 == 1, prefix, lo-first, hi-first); err != nil {
			return err
		}
		bodies = bodies[v>>1:]
	}
	return nil
}

// appendFrame appends the values [lo:hi), as far as they exist, of a frame whose
// lengths are t.numbers.
func (t *textBuffers) appendFrame(body []byte, compressed bool, prefix []byte, lo, hi int) error {
	raw := int64(0)
	for _, l := range t.numbers {
		if l < 0 || l > maxTextBytes {
			return badColumn("string of %d bytes", l)
		}
		raw += l
	}
	if raw+int64(len(t.data)) > maxTextBytes {
		return badColumn("%d bytes of strings", raw)
	}
	lo, hi = max(lo, 0), min(hi, len(t.numbers))
	if len(prefix) == 0 && lo == 0 && hi == len(t.numbers) && compressed {
		// All of it, as it is: no copy.
		start := len(t.data)
		t.data = growBy(t.data, int(raw))
		out, err := textDecoder.DecodeAll(body, t.data[:start:start+int(raw)])
		if err != nil || len(out) != start+int(raw) {
			return badColumn("frame of %d bytes, want %d: %v", len(out)-start, raw, err)
		}
		t.data = t.data[:start+int(raw)]
		for _, l := range t.numbers {
			start += int(l)
			t.offs = append(t.offs, uint32(start))
		}
		return nil
	}
	if compressed {
		out, err := textDecoder.DecodeAll(body, make([]byte, 0, raw))
		if err != nil {
			return badColumn("frame: %v", err)
		}
		body = out
	}
	if int64(len(body)) != raw {
		return badColumn("frame of %d bytes, want %d", len(body), raw)
	}
	at := int64(0)
	for i, l := range t.numbers[:hi] {
		if i >= lo {
			t.data = append(t.data, prefix...)
			t.data = append(t.data, body[at:at+l]...)
			t.offs = append(t.offs, uint32(len(t.data)))
		}
		at += l
	}
	return nil
}

// growBy returns buf with room for n more bytes.
func growBy(buf []byte, n int) []byte {
	if cap(buf)-len(buf) >= n {
		return buf
	}
	out := make([]byte, len(buf), len(buf)+n+n/4)
	copy(out, buf)
	return out
}
