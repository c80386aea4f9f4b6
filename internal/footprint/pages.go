package footprint

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mapping is a part of this process's memory that comes from a file.
type mapping struct {
	start, end uintptr
	resident   int64 // bytes
}

// Drop takes the pages of the executable's file out of this process's
// memory, and returns how many bytes those were. They are clean and stay in the
// kernel's page cache, from which those that are needed come back one by one: a
// start runs through most of the executable once, and what runs afterwards is a
// small part of it. Another process with the same executable keeps what it has.
//
// A mapping in which somebody has written, such as a debugger its breakpoints,
// is left alone: that would be lost.
func Drop() (int64, error) {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return 0, fmt.Errorf("find the executable: %w", err)
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return 0, fmt.Errorf("list what is mapped: %w", err)
	}
	var dropped int64
	for _, m := range ownMappings(smaps, exe) {
		// unix.Madvise wants a slice, which of memory that is not Go's nobody should make.
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED); errno != 0 {
			return dropped, fmt.Errorf("drop pages of the executable: %w", errno)
		}
		dropped += m.resident
	}
	return dropped, nil
}

// ownMappings reads /proc/self/smaps: the mappings of exe that nobody can write
// to or has written to.
func ownMappings(smaps []byte, exe string) []mapping {
	var all []mapping
	var m mapping
	own := false
	s := bufio.NewScanner(bytes.NewReader(smaps))
	for s.Scan() {
		key, rest, _ := strings.Cut(s.Text(), " ")
		rest = strings.TrimSpace(rest)
		from, to, isRange := strings.Cut(key, "-")
		switch {
		case isRange:
			own = false
			f := strings.Fields(rest) // rights, offset, device, inode, path
			start, err1 := strconv.ParseUint(from, 16, 64)
			end, err2 := strconv.ParseUint(to, 16, 64)
			if err1 != nil || err2 != nil || len(f) < 5 || strings.Join(f[4:], " ") != exe {
				continue
			}
			own = len(f[0]) == 4 && f[0][1] == '-' && f[0][3] == 'p'
			m = mapping{start: uintptr(start), end: uintptr(end)}
		case own && key == "Rss:":
			m.resident = kilobytes(rest)
		case own && key == "Anonymous:":
			if kilobytes(rest) == 0 && m.resident > 0 {
				all = append(all, m)
			}
		}
	}
	return all
}

func kilobytes(s string) int64 {
	n, err := strconv.ParseInt(strings.TrimSuffix(s, " kB"), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}
