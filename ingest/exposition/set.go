package exposition

import "github.com/vedette-io/vedette/internal/labels"

// Set holds the series of a write, so that those which are not in the next one
// can be ended. It keeps the label bytes that it is given.
type Set map[labels.Hash][]byte

// Add adds a series and reports whether it is new.
func (s Set) Add(lset []byte) bool {
	h := labels.HashCanonical(lset)
	if _, ok := s[h]; ok {
		return false
	}
	s[h] = lset
	return true
}

// Gone returns the series that are not in now, in no order.
func (s Set) Gone(now Set) (gone [][]byte) {
	for h, lset := range s {
		if _, ok := now[h]; !ok {
			gone = append(gone, lset)
		}
	}
	return gone
}
