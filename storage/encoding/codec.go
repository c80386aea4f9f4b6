package encoding

import (
	"errors"
	"fmt"
	"slices"
)

// MaxValues is the largest number of values in a float, time or histogram
// chunk. Decoders refuse more, which bounds what a hostile count can allocate.
const MaxValues = 8192

// ErrCorruption is wrapped by every error that bad bytes cause.
var ErrCorruption = errors.New("corrupt column")

// Codec says how a chunk's payload is encoded. It is stored beside the payload,
// as is the number of values; see docs/format/encoding.md for the ladder. A
// value is never reused for another layout.
type Codec uint8

// The whole-chunk codecs. From codecColumn on a codec byte is a set of fields
// (order, transform, coder), see columnCodec.
const (
	CodecInvalid    Codec = 0 // never written
	CodecZero       Codec = 1 // every value is +0; the payload is empty
	CodecConstInt   Codec = 2 // one integer, the payload's bytes little-endian, zigzag
	CodecConstDec   Codec = 3 // a scale byte, then as CodecConstInt
	CodecConstBits  Codec = 4 // the high bytes of one float's bits
	CodecRaw        Codec = 5 // eight bytes a value, little-endian
	CodecHistograms Codec = 6 // native histograms, see histograms.go
	CodecHistZstd   Codec = 7 // the same inside one zstd frame

	codecColumn Codec = 0x80
)

// The fields of a column codec: 1 oo tt cc s (order, transform, coder, shift).
const (
	orderShift     = 5
	transformShift = 3
	coderShift     = 1
	shiftFlag      = 1

	transformInt    = 0 // the integers are the values
	transformScaled = 1 // a scale byte turns integers into values
	transformExcept = 2 // as scaled, and a list of exceptions precedes the column

	coderPacked = 0 // frame of reference, bit-packed
	coderClass  = 1 // magnitude class by a static prefix code, then the bits below it
	coderSparse = 2 // mostly zero residuals: positions and values of the others
	coderVarint = 3 // zigzag varints, for chunks of a few values
)

func columnCodec(order, transform, coder int, shift uint) Codec {
	c := codecColumn | Codec(order<<orderShift|transform<<transformShift|coder<<coderShift)
	if shift > 0 {
		c |= shiftFlag
	}
	return c
}

func (c Codec) order() int     { return int(c>>orderShift) & 3 }
func (c Codec) transform() int { return int(c>>transformShift) & 3 }
func (c Codec) coder() int     { return int(c>>coderShift) & 3 }
func (c Codec) shifted() bool  { return c&shiftFlag != 0 }

// String names the codec as docs/format/encoding.md does.
func (c Codec) String() string {
	if c < codecColumn {
		names := [...]string{"invalid", "zero", "const-int", "const-dec", "const-bits", "raw", "histograms", "histograms-zstd"}
		if int(c) < len(names) {
			return names[c]
		}
		return fmt.Sprintf("codec(%#x)", uint8(c))
	}
	name := [...]string{"packed", "class", "sparse", "varint"}[c.coder()]
	name = [...]string{"int", "scaled", "except", "transform3"}[c.transform()] + "/" + name
	name = fmt.Sprintf("%s/order%d", name, c.order())
	if c.shifted() {
		name += "/shift"
	}
	return name
}

// Scratch holds the buffers that encoding reuses between calls. It may not be
// used by two goroutines at once. The zero value is ready for use.
type Scratch struct {
	// Quick makes encoders look for a small form less hard: for chunks that will
	// soon be decoded and encoded again.
	Quick bool

	ints   []int64    // values after the transform
	resid  [3][]int64 // residuals by order
	except []exception
	hist   histScratch
}

// grown returns buf with length n, its content undefined.
func grown[T any](buf []T, n int) []T {
	if cap(buf) < n {
		return make([]T, n, n+n/2)
	}
	return buf[:n]
}

// extend returns dst with n more elements of undefined content, and those.
func extend[T any](dst []T, n int) ([]T, []T) {
	dst = slices.Grow(dst, n)
	old := len(dst)
	dst = dst[:old+n]
	return dst, dst[old:]
}

func corrupt(what string, c Codec, format string, args ...any) error {
	return fmt.Errorf("decode %s, codec %s: %s: %w", what, c, fmt.Sprintf(format, args...), ErrCorruption)
}
