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

// Find returns the code of a value.
func (d *Dictionary) Find(value []byte) (code uint32, ok bool) {
	for i, n := uint32(0), uint32(d.Len()); i < n; i++ {
		if int(d.offs[i+1]-d.offs[i]) == len(value) && string(d.At(i)) == string(value) {
			return i, true
		}
	}
	return 0, false
}
