package log

import (
	"bytes"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/simplifiedchinese"
)

// charset turns the bytes of a file into UTF-8.
type charset struct {
	decoder *encoding.Decoder // nil is UTF-8
	double  bool              // characters have one, two or four bytes, as in GB18030
}

func newCharset(name string) charset {
	switch name {
	case EncodingGBK:
		return charset{simplifiedchinese.GBK.NewDecoder(), true}
	case EncodingGB18030:
		return charset{simplifiedchinese.GB18030.NewDecoder(), true}
	}
	return charset{}
}

var replacement = []byte("\uFFFD")

// text returns b as UTF-8, and whether something had to be replaced. It is b itself
// where that is UTF-8 already.
func (c charset) text(b []byte) (text []byte, replaced bool) {
	if c.decoder == nil {
		if utf8.Valid(b) {
			return b, false
		}
		return bytes.ToValidUTF8(b, replacement), true
	}
	if isASCII(b) {
		return b, false
	}
	text, err := c.decoder.Bytes(b)
	if err != nil { // these decoders replace rather than fail
		return bytes.ToValidUTF8(b, replacement), true
	}
	return text, bytes.Contains(text, replacement)
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// boundary returns the largest n, at most limit, such that b[:n] does not end within
// a character. b is longer than limit.
func (c charset) boundary(b []byte, limit int) int {
	if !c.double {
		for n := limit; n > limit-utf8.UTFMax && n > 0; n-- {
			if utf8.RuneStart(b[n]) {
				return n
			}
		}
		return limit
	}
	n := 0
	for n < limit {
		size := 1
		if b[n] > 0x80 && n+1 < len(b) {
			size = 2
			if b[n+1] >= '0' && b[n+1] <= '9' {
				size = 4
			}
		}
		if n+size > limit {
			break
		}
		n += size
	}
	return max(n, 1)
}
