package symbol

import (
	"bytes"
	"io"
	"math"
	"slices"
	"sort"
	"strconv"
)

// Bounds of a perf map.
const (
	maxPerfBytes   = 256 << 20
	maxPerfEntries = 256 << 10
)

// perfEntry is one piece of code that a JIT compiler has written: 16 bytes.
type perfEntry struct {
	start uint64
	size  uint32
	at    uint32 // where the line's name begins in the file
}

// perfMap is what was read of a /tmp/perf-<pid>.map, which only grows. Names stay
// in the file. Of two entries with the same address the later one holds.
type perfMap struct {
	inode   uint64
	read    int64 // bytes
	entries []perfEntry
}

// extend reads what was appended, up to size bytes in all.
func (p *perfMap) extend(r io.ReaderAt, size int64) error {
	size = min(size, maxPerfBytes)
	buf := make([]byte, 64<<10)
	before := len(p.entries)
	for p.read < size && len(p.entries) < maxPerfEntries {
		n, err := r.ReadAt(buf[:min(int64(len(buf)), size-p.read)], p.read)
		b := buf[:n]
		end := bytes.LastIndexByte(b, '\n') + 1
		if end == 0 {
			if n < len(buf) || err != nil {
				break // the last line is not whole yet
			}
			end = n // a line longer than the buffer is no entry
		}
		p.parse(b[:end])
		p.read += int64(end)
		if err != nil && err != io.EOF {
			return err
		}
	}
	if len(p.entries) > before {
		slices.SortFunc(p.entries, func(a, b perfEntry) int {
			switch {
			case a.start < b.start:
				return -1
			case a.start > b.start:
				return 1
			}
			return int(int64(a.at) - int64(b.at))
		})
	}
	return nil
}

// parse reads whole lines, such as
//
//	7f2a4c000000 1c0 LazyCompile:*handle /srv/app.js:10
func (p *perfMap) parse(b []byte) {
	at := p.read
	for line := range bytes.Lines(b) {
		lineAt := at
		at += int64(len(line))
		start, rest, ok := bytes.Cut(line, []byte(" "))
		if !ok {
			continue
		}
		size, name, ok := bytes.Cut(rest, []byte(" "))
		if !ok || len(name) < 2 {
			continue
		}
		s, err := strconv.ParseUint(string(bytes.TrimPrefix(start, []byte("0x"))), 16, 64)
		if err != nil {
			continue
		}
		n, err := strconv.ParseUint(string(bytes.TrimPrefix(size, []byte("0x"))), 16, 64)
		if err != nil || n == 0 {
			continue
		}
		if len(p.entries) < maxPerfEntries {
			nameAt := lineAt + int64(len(start)+len(size)+2)
			p.entries = append(p.entries, perfEntry{s, uint32(min(n, math.MaxUint32)), uint32(nameAt)})
		}
	}
}

// find gives the entry of an address.
func (p *perfMap) find(addr uint64) (perfEntry, bool) {
	i := sort.Search(len(p.entries), func(i int) bool { return p.entries[i].start > addr }) - 1
	if i < 0 || addr-p.entries[i].start >= uint64(p.entries[i].size) {
		return perfEntry{}, false
	}
	return p.entries[i], true
}

// name reads the name of an entry.
func (p *perfMap) name(r io.ReaderAt, e perfEntry) (string, bool) {
	var buf [256]byte
	n, err := r.ReadAt(buf[:], int64(e.at))
	if err != nil && err != io.EOF {
		return "", false
	}
	name, _, _ := bytes.Cut(buf[:n], []byte("\n"))
	return string(name), len(name) > 0
}
