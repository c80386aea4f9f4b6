package wire

import "github.com/klauspost/compress/s2"

// Share is what of a batch goes into one payload.
type Share struct {
	Partition int
	Rows      []uint32 // of the batch, rising
	Payload   []byte
}

// Shares are those of a batch that is being divided, and the memory that they keep
// for the next one. The zero value is ready.
type Shares struct {
	List []Share
	Out  []byte // uncompressed message
}

// Begin empties n shares, one for every partition.
func (s *Shares) Begin(n int) {
	s.List = s.List[:0]
	for k := range n {
		s.add(k)
	}
}

func (s *Shares) add(partition int) *Share {
	if n := len(s.List); n < cap(s.List) {
		s.List = s.List[:n+1]
	} else {
		s.List = append(s.List, Share{})
	}
	sh := &s.List[len(s.List)-1]
	sh.Partition, sh.Rows, sh.Payload = partition, sh.Rows[:0], sh.Payload[:0]
	return sh
}

// Halve moves the rows of share i from the mid-th on to a new one at the end, for
// the same partition.
func (s *Shares) Halve(i, mid int) {
	half := s.add(s.List[i].Partition)
	rows := s.List[i].Rows
	half.Rows = append(half.Rows, rows[mid:]...)
	s.List[i].Rows = rows[:mid]
}

// Reset forgets the batch that was divided last.
func (s *Shares) Reset() { s.List = s.List[:0] }

// CapBytes is the memory that s keeps.
func (s *Shares) CapBytes() int {
	n := cap(s.Out)
	for _, sh := range s.List[:cap(s.List)] {
		n += 4*cap(sh.Rows) + cap(sh.Payload)
	}
	return n
}

// Whole returns the payload of a request of which nothing was changed: the one that
// came if that is in the format asked for, otherwise one made of its body.
func (s *Shares) Whole(came []byte, isAsked bool, body []byte, plain bool) []byte {
	switch {
	case isAsked:
		return came
	case plain:
		return body
	}
	s.Out = Pack(s.Out, body, false)
	return s.Out
}

// Pack writes a message into the memory of dst, or into more, as a payload: as it
// is, or as a snappy block.
func Pack(dst, message []byte, plain bool) []byte {
	if plain {
		return append(dst[:0], message...)
	}
	return s2.EncodeSnappy(dst[:cap(dst)], message)
}
