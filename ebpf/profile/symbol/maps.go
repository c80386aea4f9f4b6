package symbol

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// maxMappings bounds the executable mappings kept of one process.
const maxMappings = 2048

// mapping is one executable mapping of a process.
type mapping struct {
	start, end uint64
	offset     uint64
	inode      uint64
	major      uint32
	minor      uint32
	path       string
	file       *file // what it maps, once it was opened
	tried      bool  // opening it was tried
}

// object is how the mapped file is called in a stack.
func (m *mapping) object() string {
	p := m.path
	switch {
	case p == "":
		return "anon"
	case strings.HasPrefix(p, "["):
		return Clean(strings.Trim(p, "[]"))
	}
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		p = p[i+1:]
	}
	return Clean(p)
}

// generated says that the code is of no file, so a JIT compiler's.
func (m *mapping) generated() bool {
	return m.inode == 0 && !strings.HasPrefix(m.path, "[v") || strings.HasPrefix(m.path, "/memfd:") || strings.HasPrefix(m.path, "/dev/zero")
}

// parseMaps reads the executable mappings out of /proc/<pid>/maps.
func parseMaps(b []byte) []mapping {
	var all []mapping
	for line := range bytes.Lines(b) {
		if m, ok := parseMapping(line); ok && len(all) < maxMappings {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b mapping) int {
		if a.start < b.start {
			return -1
		}
		if a.start > b.start {
			return 1
		}
		return 0
	})
	return slices.Clip(all)
}

// parseMapping reads a line such as
//
//	55d0c0000000-55d0c0010000 r-xp 00002000 fe:00 325835      /usr/bin/true
func parseMapping(line []byte) (m mapping, ok bool) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	next := func() string {
		line = bytes.TrimLeft(line, " ")
		field, rest, _ := bytes.Cut(line, []byte(" "))
		line = rest
		return string(field)
	}
	from, to, found := strings.Cut(next(), "-")
	rights := next()
	if !found || len(rights) < 3 || rights[2] != 'x' {
		return m, false
	}
	var errs [6]error
	m.start, errs[0] = strconv.ParseUint(from, 16, 64)
	m.end, errs[1] = strconv.ParseUint(to, 16, 64)
	m.offset, errs[2] = strconv.ParseUint(next(), 16, 64)
	major, minor, _ := strings.Cut(next(), ":")
	mj, err := strconv.ParseUint(major, 16, 32)
	errs[3] = err
	mn, err := strconv.ParseUint(minor, 16, 32)
	errs[4] = err
	m.inode, errs[5] = strconv.ParseUint(next(), 10, 64)
	for _, err := range errs {
		if err != nil {
			return m, false
		}
	}
	if m.end <= m.start {
		return m, false
	}
	m.major, m.minor = uint32(mj), uint32(mn)
	path := strings.TrimSuffix(string(bytes.TrimLeft(line, " ")), " (deleted)")
	m.path = strings.ReplaceAll(path, `\012`, "\n")
	return m, true
}

// mappingAt finds the mapping of an address.
func mappingAt(all []mapping, addr uint64) *mapping {
	i, found := slices.BinarySearchFunc(all, addr, func(m mapping, a uint64) int {
		switch {
		case a < m.start:
			return 1
		case a >= m.end:
			return -1
		}
		return 0
	})
	if !found {
		return nil
	}
	return &all[i]
}
