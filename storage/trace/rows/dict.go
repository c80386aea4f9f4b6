package rows

// Dictionary is the strings (bytes, arrays, maps) that the codes of one column
// stand for. It does not change once a reader has it.
type Dictionary struct {
	offs []uint32 // value i is data[offs[i]:offs[i+1]]
	data []byte
}

// NewDictionary returns the dictionary whose value i is data[offs[i]:offs[i+1]].
// offs has at least one entry.
func NewDictionary(offs []uint32, data []byte) *Dictionary {
	return &Dictionary{offs: offs, data: data}
}

// Len returns the number of values; codes are below it.
func (d *Dictionary) Len() int { return len(d.offs) - 1 }

// At returns the value that code stands for. It must not be changed.
func (d *Dictionary) At(code uint32) []byte {
	return d.data[d.offs[code]:d.offs[code+1]:d.offs[code+1]]
}

// Find returns the code of a value. It compares the lengths of all.
func (d *Dictionary) Find(value []byte) (code uint32, ok bool) {
	for i := range len(d.offs) - 1 {
		if int(d.offs[i+1]-d.offs[i]) == len(value) && string(d.At(uint32(i))) == string(value) {
			return uint32(i), true
		}
	}
	return 0, false
}

// A column has a dictionary until it has dictDistinct values and those are more
// than half of all, or it has dictMax
// values or more than dictBytes bytes.
const (
	dictDistinct = 1024
	dictMax      = 1 << 16
	dictBytes    = 1 << 26
)

// dictBuilder is the dictionary of a column of a table, which grows.
type dictBuilder struct {
	Dictionary
	index tagIndex
	seen  int  // values that were coded
	raw   bool // it does not pay: values are no longer coded
}

// code returns the code of a value whose hash is h.
func (d *dictBuilder) code(value []byte, h uint64) uint32 {
	d.index.reserve()
	at := d.index.probe(h)
	for ; d.index.slots[at] != 0; at = d.index.next(at) {
		if s := d.index.slots[at]; sameTag(s, h) && string(d.At(number(s))) == string(value) {
			return number(s)
		}
	}
	if d.offs == nil {
		d.offs = append(d.offs, 0)
	}
	code := uint32(d.Len())
	d.data = append(d.data, value...)
	d.offs = append(d.offs, uint32(len(d.data)))
	d.index.set(at, h, code)
	return code
}

// review gives the dictionary up if it does not pay. A group adds a bounded
// number of values between reviews.
func (d *dictBuilder) review() {
	n := d.Len()
	if n >= dictDistinct && n > d.seen/2 || n >= dictMax || len(d.data) > dictBytes {
		d.raw = true
		d.index = tagIndex{}
	}
}

// Len returns the number of values.
func (d *dictBuilder) Len() int { return max(len(d.offs), 1) - 1 }

func (d *dictBuilder) bytes() int { return cap(d.data) + 4*cap(d.offs) + 8*len(d.index.slots) }
