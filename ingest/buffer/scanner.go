package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// scanner reads a segment's records one after the other, through one buffer
// that it fills with big reads.
type scanner struct {
	src   io.ReaderAt
	seed  uint32
	limit int64 // file position behind the last byte that may be read

	pos    int64  // file position of the next record
	window []byte // the bytes of [start, start+len)
	start  int64
	buf    []byte // what window is cut from
}

const (
	scanBytes    = 2 << 20  // of one read
	minScanBytes = 64 << 10 // of a buffer, so that a slow trickle does not grow it step by step
	maxIdleBytes = 16 << 20 // a larger buffer is let go after use
)

var (
	// errDamaged is returned by scanner.next where there is no valid record.
	errDamaged = errors.New("no valid record")

	// errMore is returned by scanner.next where it would have to read, and may not.
	errMore = errors.New("next record is not in memory")
)

// scanned is a record as the scanner found it. Tenant and payload point into
// the scanner's buffer.
type scanned struct {
	recordHeader
	pos     int64 // file position of its first byte
	tenant  []byte
	payload []byte
}

func (s *scanner) reset(src io.ReaderAt, seed uint32, pos, limit int64) {
	*s = scanner{src: src, seed: seed, pos: pos, limit: limit, buf: s.buf}
	if cap(s.buf) > maxIdleBytes {
		s.buf = nil
	}
}

// next returns the record at s.pos and moves behind it. At the limit it
// returns io.EOF; where the bytes are no valid record, or one that goes beyond
// the limit, errDamaged, and stays where it is; resync finds the next one. A
// read overwrites what earlier calls returned; without mayRead there is none,
// and errMore says that it takes one.
func (s *scanner) next(mayRead bool) (r scanned, err error) {
	if s.pos >= s.limit {
		return r, io.EOF
	}
	if s.limit-s.pos < recordHeaderBytes {
		return r, errDamaged
	}
	b, err := s.at(s.pos, recordHeaderBytes, mayRead)
	if err != nil {
		return r, err
	}
	sum, ok := r.decode(b)
	if !ok || r.bytes() > s.limit-s.pos {
		return r, errDamaged
	}
	headLen := recordHeaderBytes + int64(r.tenantLen)
	if b, err = s.at(s.pos, headLen, mayRead); err != nil {
		return r, err
	}
	if crc32.Update(s.seed, castagnoli, b[8:]) != sum {
		return r, errDamaged
	}
	// The header is sound, so its lengths are, and may be read for.
	if b, err = s.at(s.pos, r.bytes(), mayRead); err != nil {
		return r, err
	}
	r.pos = s.pos
	r.tenant, r.payload = b[recordHeaderBytes:headLen], b[headLen:]
	if checksum(r.payload) != r.payloadSum {
		return r, errDamaged
	}
	s.pos += r.bytes()
	return r, nil
}

// resync moves behind the damage at s.pos to the next bytes that are a valid
// record, and says whether there are any.
func (s *scanner) resync() (bool, error) {
	for {
		s.pos++
		if s.limit-s.pos < recordHeaderBytes {
			s.pos = s.limit
			return false, nil
		}
		_, err := s.at(s.pos, recordHeaderBytes, true)
		if err != nil {
			return false, err
		}
		b := s.window[s.pos-s.start:]
		i := bytes.Index(b, []byte(recordMagic))
		if i < 0 {
			s.pos += int64(len(b) - len(recordMagic))
			continue
		}
		s.pos += int64(i)
		pos := s.pos
		_, err = s.next(true)
		s.pos = pos
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, errDamaged) && !errors.Is(err, io.EOF) {
			return false, err
		}
	}
}

// at returns n bytes of the file from pos, which lie below the limit.
func (s *scanner) at(pos, n int64, mayRead bool) ([]byte, error) {
	if pos < s.start || pos+n > s.start+int64(len(s.window)) {
		if !mayRead {
			return nil, errMore
		}
		if err := s.fill(pos, n); err != nil {
			return nil, err
		}
	}
	i := pos - s.start
	return s.window[i : i+n : i+n], nil
}

// fill reads at least n bytes from pos. Only what the limit allows is ever
// allocated for, so a damaged length cannot ask for more than the file has.
func (s *scanner) fill(pos, n int64) error {
	want := min(max(n, scanBytes), s.limit-pos)
	if int64(cap(s.buf)) < want {
		s.buf = make([]byte, max(want, minScanBytes))
	}
	s.window, s.start = nil, pos
	b := s.buf[:want]
	read, err := s.src.ReadAt(b, pos)
	if int64(read) < n {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read %d bytes at %d: %w", want, pos, err)
	}
	s.window = b[:read]
	return nil
}
