package wire

import "github.com/klauspost/compress/s2"

// maxSnappyRatio is more than a snappy block can expand: a copy element of
// three bytes yields at most 64.
const maxSnappyRatio = 24

// Uncompress undoes a snappy block into the memory of dst, or into more, which it
// charges. The size that the block claims is checked against the limit, of which
// 0 is MaxBuf, and against what its length can hold before any memory is taken.
func Uncompress(b *Budget, dst, block []byte, limit int) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	if err != nil {
		return dst, &SyntaxError{Message: "snappy block", Detail: "no valid length"}
	}
	if limit = BodyLimit(limit); n > limit {
		return dst, &SizeError{What: "uncompressed body", Got: n, Limit: limit}
	}
	if n > maxSnappyRatio*len(block) {
		return dst, &SyntaxError{Message: "snappy block", Detail: "claims more bytes than its length can hold"}
	}
	if cap(dst) < n {
		room := n + n/16
		if err := b.Charge(room - cap(dst)); err != nil {
			return dst, err
		}
		dst = make([]byte, 0, room)
	}
	body, err := s2.Decode(dst[:cap(dst)], block)
	if err != nil {
		return dst, &SyntaxError{Message: "snappy block", Detail: err.Error()}
	}
	return body, nil
}

// BodyLimit returns Limits.MaxDecodedBytes as it holds: at most MaxBuf, which 0
// stands for.
func BodyLimit(maxDecodedBytes int) int {
	if maxDecodedBytes == 0 {
		return MaxBuf
	}
	return min(maxDecodedBytes, MaxBuf)
}
