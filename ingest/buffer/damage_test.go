package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vedette-io/vedette/internal/vfs"
)

// damageLog writes records 0 to 19, of some 1 KB each, 7 in a segment, and
// closes the log.
func damageLog(t *testing.T) *vfs.Mem {
	t.Helper()
	fsys := vfs.NewMem()
	l := openTest(t, testConfig(), fsys)
	for i := range 20 {
		appendTest(t, l, big(fmt.Sprint(i), 1000))
	}
	closeTest(t, l)
	return fsys
}

func TestDamage(t *testing.T) {
	const size = recordHeaderBytes + int64(len("tenant")) + 1000
	record := func(i int64) int64 { return segmentHeaderBytes + i*size }
	tests := []struct {
		name    string
		segment int64 // by its first offset
		at      int64
		missing []int64
		next    int64 // offset of the next append
		lost    float64
		damages float64
	}{
		{"payload", 7, record(2) + 100, []int64{9}, 20, 1, 1},
		{"record header", 7, record(2) + 50, []int64{9}, 20, 1, 1},
		{"magic", 7, record(0), []int64{7}, 20, 1, 1},
		{"last record of a finished segment", 0, record(6) + 500, []int64{6}, 20, 1, 1},
		{"length", 0, record(3) + 51, []int64{3}, 20, 1, 1},
		{"middle of the last segment", 14, record(1) + 500, []int64{15}, 20, 1, 2}, // found by Open and by the reader
		{"tail", 14, -1, []int64{19}, 19, 0, 0},
		{"header of a finished segment", 7, 20, []int64{7, 8, 9, 10, 11, 12, 13}, 20, 7, 1},
		// It can have held up to size/64 records.
		{"header of the last segment", 14, 0, []int64{14, 15, 16, 17, 18, 19}, 14 + (64+6*size)/64 + 1, 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fsys := damageLog(t)
				flip(t, fsys, segmentName(tt.segment), tt.at)
				for range 2 { // it must not get worse
					l := openTest(t, testConfig(), fsys)
					var want []string
					for i := range int64(20) {
						if !slices.Contains(tt.missing, i) {
							want = append(want, big(fmt.Sprint(i), 1000))
						}
					}
					wantPayloads(t, readAll(t, l, "g", 0, false), want...)
					wantPayloads(t, readAll(t, l, "other", 0, false), want...) // counted once
					m := l.openTopics()[0].metrics
					if got := testutil.ToFloat64(m.lostRecords); got != tt.lost {
						t.Errorf("got %v records lost, want %v", got, tt.lost)
					}
					if got := testutil.ToFloat64(m.damaged); got != tt.damages {
						t.Errorf("got %v damages, want %v", got, tt.damages)
					}
					closeTest(t, l)
					if tt.at >= 0 && tt.at < segmentHeaderBytes {
						tt.damages = 0 // the file is out of the way now
					}
				}
				l := openTest(t, testConfig(), fsys)
				if got := appendTest(t, l, "next"); got != tt.next {
					t.Errorf("got offset %d, want %d", got, tt.next)
				}
				all := readAll(t, l, "g", 0, false)
				if last := all[len(all)-1]; last.offset != tt.next || last.payload != "next" {
					t.Errorf("last message: %v", last)
				}
				closeTest(t, l)
			})
		})
	}
}

func TestDamagedGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		cfg := testConfig()
		cfg.Retention.Bytes = 1 << 20
		l := openTest(t, cfg, fsys)
		appendTest(t, l, "a", "b")
		readAll(t, l, "g", -1, true)
		closeTest(t, l)
		file := filepath.Join(testDir, testTopic, groupFileName("g"))
		data, err := vfs.ReadFile(fsys, file)
		if err != nil {
			t.Fatal(err)
		}
		data[17] ^= 1
		if err := vfs.WriteFile(fsys, file, data); err != nil {
			t.Fatal(err)
		}
		l = openTest(t, cfg, fsys)
		wantPayloads(t, readAll(t, l, "g", -1, false), "a", "b")
		closeTest(t, l)
		if ok, err := vfs.Exists(fsys, file+corruptSuffix); !ok || err != nil {
			t.Fatalf("the damaged file was not kept: %v", err)
		}
	})
}

func TestCommittedBeyondEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		l := openTest(t, testConfig(), fsys)
		appendTest(t, l, "a", "b", "c")
		readAll(t, l, "g", -1, true)
		closeTest(t, l)
		flip(t, fsys, segmentName(0), -1)
		l = openTest(t, testConfig(), fsys)
		if got := appendTest(t, l, "d"); got != 3 {
			t.Fatalf("got offset %d, want 3: the store holds what was there before", got)
		}
		wantPayloads(t, readAll(t, l, "g", -1, false), "d")
		closeTest(t, l)
	})
}

func TestNewerVersionIsRefused(t *testing.T) {
	fsys := damageLog(t)
	path := filepath.Join(testDir, testTopic, "0", segmentName(14))
	data, err := vfs.ReadFile(fsys, path)
	if err != nil {
		t.Fatal(err)
	}
	data[8] = currentVersion + 1
	copy(data[segmentHeaderBytes-4:], sealed(slices.Clone(data[:segmentHeaderBytes-4]))[segmentHeaderBytes-4:])
	if err := vfs.WriteFile(fsys, path, data); err != nil {
		t.Fatal(err)
	}
	_, err = tryOpen(t, testConfig(), fsys)
	var newer *VersionError
	if !errors.As(err, &newer) || !strings.Contains(err.Error(), path) {
		t.Fatalf("got %v, want a VersionError that names the file", err)
	}
}

func TestLostIdentityIsRefused(t *testing.T) {
	fsys := damageLog(t)
	if err := fsys.Remove(filepath.Join(testDir, logName)); err != nil {
		t.Fatal(err)
	}
	if _, err := tryOpen(t, testConfig(), fsys); !errors.Is(err, ErrCorruption) {
		t.Fatalf("got %v, want ErrCorruption", err)
	}
}

func TestFormatSizes(t *testing.T) {
	var sh segmentHeader
	if got := len(sh.encode()); got != segmentHeaderBytes {
		t.Errorf("segment header: %d bytes, want %d", got, segmentHeaderBytes)
	}
	rh := recordHeader{tenantLen: 3}
	if got := len(rh.appendTo(nil, 0, "abc")); got != recordHeaderBytes+3 {
		t.Errorf("record header: %d bytes, want %d", got, recordHeaderBytes+3)
	}
	if got := len(encodeIdentity(newSource())); got != identityBytes {
		t.Errorf("identity: %d bytes, want %d", got, identityBytes)
	}
	if got := len(encodeOffsets(make([]int64, 5))); got != groupHeaderBytes+5*8+4 {
		t.Errorf("offsets: %d bytes, want %d", got, groupHeaderBytes+5*8+4)
	}
}

// FuzzSegment reads hostile bytes behind a sound segment header, first as the
// last segment of a log, then as a finished one.
func FuzzSegment(f *testing.F) {
	seg := &segment{segmentHeader: segmentHeader{salt: 42}}
	var body []byte
	for i := range int64(3) {
		payload := bytes.Repeat([]byte{byte(i)}, 30)
		h := recordHeader{offset: i, durable: i, payloadLen: 30, payloadSum: checksum(payload), tenantLen: 6, flags: recordLast}
		body = append(h.appendTo(body, seg.seed(), "tenant"), payload...)
	}
	f.Add(body)
	f.Add(body[:len(body)-1])
	f.Add(append(slices.Clone(body[:100]), body...))
	f.Add(append([]byte("VRECVRECVREC"), body...))
	f.Fuzz(func(t *testing.T, data []byte) {
		seg := *seg
		file := append(seg.encode(), data...)
		seg.size = int64(len(file))
		found, err := scanTail(bytes.NewReader(file), &seg)
		if err != nil {
			t.Fatalf("scan: %v", err)
		}
		if found.end < segmentHeaderBytes || found.end > seg.size || found.next < 0 {
			t.Fatalf("scan: %+v of %d bytes", found, seg.size)
		}
		var s scanner
		s.reset(bytes.NewReader(file), seg.seed(), segmentHeaderBytes, seg.size)
		for {
			pos := s.pos
			r, err := s.next(true)
			if errors.Is(err, errDamaged) {
				more, err := s.resync()
				if err != nil {
					t.Fatalf("resync: %v", err)
				}
				if s.pos <= pos {
					t.Fatalf("resync went from %d to %d", pos, s.pos)
				}
				if !more {
					break
				}
				continue
			}
			if err != nil {
				break
			}
			if r.pos != pos || s.pos != pos+r.bytes() || len(r.payload) != int(r.payloadLen) {
				t.Fatalf("record %+v at %d, next at %d", r.recordHeader, pos, s.pos)
			}
		}
		if cap(s.buf) > len(file)+scanBytes {
			t.Fatalf("a buffer of %d bytes for %d bytes of input", cap(s.buf), len(file))
		}
	})
}

// FuzzFiles decodes hostile bytes as each of the small files.
func FuzzFiles(f *testing.F) {
	f.Add(encodeIdentity(newSource()))
	f.Add(encodeOffsets([]int64{1, 2}))
	f.Add((&segmentHeader{base: 7}).encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, b := range [][]byte{data, sealed(slices.Clone(data))} { // with a sound checksum too
			if source, err := decodeIdentity(b); err == nil && !bytes.Equal(encodeIdentity(source)[:16], b[:16]) {
				t.Fatal("identity changes in a round trip")
			}
			if offsets, err := decodeOffsets(b); err == nil && !bytes.Equal(encodeOffsets(offsets), b) {
				t.Fatal("offsets change in a round trip")
			}
			if h, err := decodeSegmentHeader(b); err == nil && !bytes.Equal(h.encode(), b[:segmentHeaderBytes]) {
				t.Fatal("segment header changes in a round trip")
			}
		}
	})
}
