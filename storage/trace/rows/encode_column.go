package rows

import (
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/vedette-io/vedette/storage/encoding"
)

// Values of a column often follow from the row's shape: the line of code that
// makes the span always writes the same method, port or statement. Such columns
// keep one value for each shape of the group and an inner column for the rows of
// shapes that have several.

// valueEncoder encodes the values of attribute columns; one goroutine's.
type valueEncoder struct {
	ints  intEncoder
	quick bool

	scratch encoding.Scratch
	floats  []float64
	plain   []byte
	shaped  []byte
	inner   []byte
	consts  []int64
	varying []int64
	state   []shapeConst
}

// shapeConst is what the values of one shape's rows have been so far.
type shapeConst struct {
	seen, varies bool
	value        int64
}

// appendValues appends vals, of which value i belongs to a row whose shape is
// occ[i] among the group's shapes.
func (e *valueEncoder) appendValues(dst []byte, vals []int64, occ []uint32, shapes int, double bool) []byte {
	if len(vals) == 0 {
		return dst
	}
	e.plain = e.appendPlain(e.plain[:0], vals, double)
	if e.quick || e.plain[0] == formConst || !e.appendShaped(vals, occ, shapes, double) {
		return append(dst, e.plain...)
	}
	return append(dst, e.shaped...)
}

// appendPlain appends vals without regard to shapes.
func (e *valueEncoder) appendPlain(dst []byte, vals []int64, double bool) []byte {
	start := len(dst)
	if !double {
		return appendInts(dst, vals, &e.ints)
	}
	dst = append(dst, formFloats)
	e.floats = grown(e.floats, len(vals))
	differ := false
	for i, v := range vals {
		e.floats[i] = math.Float64frombits(uint64(v))
		differ = differ || v != vals[0]
	}
	if !differ {
		return appendInts(dst[:start], vals, &e.ints)
	}
	for rest := e.floats; len(rest) > 0; {
		n := min(len(rest), encoding.MaxValues)
		var c encoding.Codec
		e.inner, c = encoding.AppendFloats(e.inner[:0], rest[:n], &e.scratch)
		dst = append(dst, byte(c))
		dst = binary.AppendUvarint(dst, uint64(len(e.inner)))
		dst = append(dst, e.inner...)
		rest = rest[n:]
	}
	return dst
}

// appendShaped puts vals into e.shaped, by shape, and reports whether that is
// clearly smaller than e.plain.
func (e *valueEncoder) appendShaped(vals []int64, occ []uint32, shapes int, double bool) bool {
	e.state = grown(e.state, shapes)
	clear(e.state)
	for i, v := range vals {
		s := &e.state[occ[i]]
		if !s.seen {
			*s = shapeConst{seen: true, value: v}
		} else if s.value != v {
			s.varies = true
		}
	}
	e.consts, e.varying = e.consts[:0], e.varying[:0]
	for i, v := range vals {
		if e.state[occ[i]].varies {
			e.varying = append(e.varying, v)
		}
	}
	if len(e.varying) > len(vals)*15/16 {
		return false
	}
	dst := append(e.shaped[:0], formByShape)
	bit := uint(0)
	for i := range e.state {
		s := &e.state[i]
		if !s.seen {
			continue
		}
		if bit&7 == 0 {
			dst = append(dst, 0)
		}
		if !s.varies {
			dst[len(dst)-1] |= 1 << (bit & 7)
			e.consts = append(e.consts, s.value)
		}
		bit++
	}
	e.inner = appendInts(e.inner[:0], e.consts, &e.ints)
	dst = binary.AppendUvarint(dst, uint64(len(e.inner)))
	dst = append(dst, e.inner...)
	if len(e.varying) > 0 {
		dst = e.appendPlain(dst, e.varying, double)
	}
	e.shaped = dst
	return len(dst)+len(e.plain)/32 < len(e.plain)
}

// shapeCount says how many values of a column a row of a shape has; shape is a
// number among the shapes of the group.
type shapeCount struct{ shape, count uint32 }

// rowShapes is what decoding by shape needs of a group: the shape of every row of
// a level among the group's shapes, how many rows each of those has, and which
// have values in the column.
type rowShapes struct {
	rows    []uint32
	used    []uint32
	listing []shapeCount // rising
}

// decodeValues fills dst with the values from lo on of the column of n values
// that src holds. cap(dst) is more than its length.
func decodeValues[T integer](dst []T, src []byte, n, lo int, rs *rowShapes, x *shapedScratch[T]) error {
	if n > 0 && len(src) > 0 {
		switch src[0] {
		case formByShape:
			return decodeShaped(dst, src[1:], lo, rs, x)
		case formFloats:
			if ints, ok := any(dst).([]int64); ok {
				return decodeFloats(ints, src[1:], n, lo)
			}
		}
	}
	c, err := parseInts(src, n)
	if err != nil {
		return err
	}
	return decodeInts(dst, &c, lo)
}

func decodeFloats(dst []int64, src []byte, n, lo int) error {
	var buf []float64
	at := 0
	for at < n {
		m := min(n-at, encoding.MaxValues)
		if len(src) == 0 {
			return badColumn("floats cut short")
		}
		size, used := binary.Uvarint(src[1:])
		if used <= 0 || size > uint64(len(src)-1-used) {
			return badColumn("floats cut short")
		}
		body := src[1+used : 1+used+int(size)]
		if hi := lo + len(dst); at < hi && at+m > lo {
			var err error
			if buf, err = encoding.DecodeFloats(buf[:0], body, encoding.Codec(src[0]), m); err != nil {
				return badColumn("%v", err)
			}
			for i := max(lo, at); i < min(hi, at+m); i++ {
				dst[i-lo] = int64(math.Float64bits(buf[i-at]))
			}
		}
		src = src[1+used+int(size):]
		at += m
	}
	if len(src) != 0 {
		return badColumn("%d bytes left over", len(src))
	}
	return nil
}

// shapedEntry is how rows of one shape find their values.
type shapedEntry[T integer] struct {
	value T      // of a constant shape
	mask  T      // all ones if values lie in the inner column
	vary  uint32 // 1 if so
	count uint32
}

// shapedScratch holds what decoding by shape reuses.
type shapedScratch[T integer] struct {
	table  []shapedEntry[T] // by shape of the group
	consts []T
	vals   []T // of the inner column, and one more
}

// decodeShaped decodes a column by shape.
func decodeShaped[T integer](dst []T, src []byte, lo int, rs *rowShapes, x *shapedScratch[T]) error {
	inner, err := x.read(src, rs)
	if err != nil {
		return err
	}
	total, varying, single := 0, 0, true
	for _, l := range rs.listing {
		e := &x.table[l.shape]
		n := int(rs.used[l.shape]) * int(l.count)
		total += n
		varying += n * int(e.vary)
		single = single && l.count == 1
	}
	if total < lo+len(dst) {
		return badColumn("%d values, want %d", total, lo+len(dst))
	}
	if single && total == len(dst) {
		x.vals = grown(x.vals, varying+1)
		if err := innerValues(x.vals[:varying], inner, varying, 0); err != nil {
			return err
		}
		place(dst[:total+1], rs.rows, x.table, x.vals)
		return nil
	}
	return x.decodePart(dst, inner, lo, varying, rs.rows)
}

// decodePart decodes some values of a column by shape, whose inner column has
// varying values.
func (x *shapedScratch[T]) decodePart(dst []T, inner []byte, lo, varying int, rows []uint32) error {
	table := x.table
	at, first := 0, 0 // values, and those of the inner column, before the row
	row := 0
	for ; row < len(rows); row++ {
		e := &table[rows[row]]
		if at+int(e.count) > lo {
			break
		}
		at += int(e.count)
		first += int(e.count * e.vary)
	}
	skip := lo - at
	part, end, have := 0, row, 0
	for ; end < len(rows) && have < skip+len(dst); end++ {
		e := &table[rows[end]]
		have += int(e.count)
		part += int(e.count * e.vary)
	}
	x.vals = grown(x.vals, part+1)
	vals := x.vals
	if err := innerValues(vals[:part], inner, varying, first); err != nil {
		return err
	}
	o, v := -skip, 0
	for _, s := range rows[row:end] {
		e := &table[s]
		for range e.count {
			if o >= 0 && o < len(dst) {
				dst[o] = e.value | vals[v]&e.mask
			}
			v += int(e.vary)
			o++
		}
	}
	return nil
}

// place fills dst, which has a slot more than values, without branches: rows
// whose shape has no value write what the next one overwrites.
func place[T integer](dst []T, rows []uint32, table []shapedEntry[T], vals []T) {
	o, v := 0, uint32(0)
	for _, s := range rows {
		e := &table[s]
		dst[o] = e.value | vals[v]&e.mask
		v += e.vary
		o += int(e.count)
	}
}

func innerValues[T integer](dst []T, inner []byte, n, first int) error {
	if n > 0 && len(inner) > 0 && inner[0] == formFloats {
		if ints, ok := any(dst).([]int64); ok {
			return decodeFloats(ints, inner[1:], n, first)
		}
	}
	c, err := parseInts(inner, n)
	if err != nil {
		return err
	}
	return decodeInts(dst, &c, first)
}

// read reads the constants of a column by shape into x.table, and returns the
// inner column.
func (x *shapedScratch[T]) read(src []byte, rs *rowShapes) ([]byte, error) {
	m := len(rs.listing)
	size := (m + 7) / 8
	if len(src) < size {
		return nil, badColumn("%d bytes for %d shapes", len(src), m)
	}
	bitmap := src[:size]
	set := 0
	for _, b := range bitmap {
		set += bits.OnesCount8(b)
	}
	if m&7 != 0 && bitmap[size-1]>>(m&7) != 0 {
		return nil, badColumn("more constants than shapes")
	}
	length, used := binary.Uvarint(src[size:])
	if used <= 0 || length > uint64(len(src)-size-used) {
		return nil, badColumn("constants cut short")
	}
	src = src[size+used:]
	c, err := parseInts(src[:length], set)
	if err != nil {
		return nil, err
	}
	x.consts = grown(x.consts, set)
	consts := x.consts
	if err := decodeInts(consts, &c, 0); err != nil {
		return nil, err
	}
	x.table = grown(x.table, len(rs.used))
	clear(x.table)
	for i, l := range rs.listing {
		e := &x.table[l.shape]
		e.count = l.count
		if bitmap[i>>3]>>(i&7)&1 == 1 {
			e.value, consts = consts[0], consts[1:]
		} else {
			e.mask--
			e.vary = 1
		}
	}
	return src[length:], nil
}
