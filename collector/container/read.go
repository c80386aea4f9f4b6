package container

import (
	"bytes"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
)

// Files of the kernel are small; what is larger is none of them.
const maxFile = 1 << 20

// readFile reads a small file; false is one that is not there, or not for us.
func readFile(path string) ([]byte, bool) {
	if path == "" {
		return nil, false
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	return data, err == nil && len(data) <= maxFile
}

// readUint reads a file that is one number; max is the largest there is.
func readUint(path string) (uint64, bool) {
	data, ok := readFile(path)
	if !ok {
		return 0, false
	}
	return parseUint(strings.TrimSpace(string(data)))
}

func parseUint(s string) (uint64, bool) {
	if s == "max" {
		return math.MaxUint64, true
	}
	v, err := strconv.ParseUint(s, 10, 64)
	return v, err == nil
}

// readPairs reads a file whose lines are a key and a number.
func readPairs(path string) (map[string]uint64, bool) {
	data, ok := readFile(path)
	if !ok {
		return nil, false
	}
	return parsePairs(data), true
}

func parsePairs(data []byte) map[string]uint64 {
	pairs := make(map[string]uint64, bytes.Count(data, []byte("\n")))
	for line := range bytes.Lines(data) {
		key, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if v, ok := parseUint(string(bytes.TrimSpace(value))); ok {
			pairs[string(key)] = v
		}
	}
	return pairs
}

// appendInts appends the numbers in a file of one number a line.
func appendInts(dst []int, data []byte) []int {
	for line := range bytes.Lines(data) {
		if v, err := strconv.Atoi(string(bytes.TrimSpace(line))); err == nil && v > 0 {
			dst = append(dst, v)
		}
	}
	return dst
}

// pressure is how long tasks waited for something, in microseconds.
type pressure struct{ some, full uint64 }

// parsePressure reads the totals of a pressure file:
//
//	some avg10=0.00 avg60=0.00 avg300=0.00 total=1234
//	full avg10=0.00 avg60=0.00 avg300=0.00 total=123
func parsePressure(data []byte) pressure {
	var p pressure
	for line := range bytes.Lines(data) {
		fields := strings.Fields(string(line))
		if len(fields) == 0 {
			continue
		}
		total, found := strings.CutPrefix(fields[len(fields)-1], "total=")
		v, ok := parseUint(total)
		switch {
		case !found || !ok:
		case fields[0] == "some":
			p.some = v
		case fields[0] == "full":
			p.full = v
		}
	}
	return p
}

// diskIO is what a cgroup did on one device, by operation.
type diskIO struct {
	device     [2]uint64 // major, minor
	operations map[string]uint64
}

// idle tells whether nothing was done.
func (d diskIO) idle() bool {
	for _, n := range d.operations {
		if n > 0 {
			return false
		}
	}
	return true
}

// parseIOStat reads io.stat of cgroup v2 into bytes and operations:
//
//	8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0
func parseIOStat(data []byte) (size, count []diskIO) {
	for line := range bytes.Lines(data) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 {
			continue
		}
		device, ok := parseDevice(fields[0])
		if !ok {
			continue
		}
		b := diskIO{device, map[string]uint64{}}
		n := diskIO{device, map[string]uint64{}}
		for _, f := range fields[1:] {
			key, value, _ := strings.Cut(f, "=")
			v, ok := parseUint(value)
			if !ok {
				continue
			}
			switch key {
			case "rbytes":
				b.operations["Read"] = v
			case "wbytes":
				b.operations["Write"] = v
			case "dbytes":
				b.operations["Discard"] = v
			case "rios":
				n.operations["Read"] = v
			case "wios":
				n.operations["Write"] = v
			case "dios":
				n.operations["Discard"] = v
			}
		}
		if len(b.operations) > 0 {
			size, count = append(size, b), append(count, n)
		}
	}
	return size, count
}

// parseBlkio reads a file of cgroup v1's blkio controller:
//
//	8:0 Read 4096
//	Total 4096
func parseBlkio(data []byte) []diskIO {
	var list []diskIO
	for line := range bytes.Lines(data) {
		fields := strings.Fields(string(line))
		if len(fields) != 3 {
			continue
		}
		device, ok := parseDevice(fields[0])
		v, isUint := parseUint(fields[2])
		if !ok || !isUint {
			continue
		}
		if n := len(list); n == 0 || list[n-1].device != device {
			list = append(list, diskIO{device, map[string]uint64{}})
		}
		list[len(list)-1].operations[fields[1]] = v
	}
	return list
}

func parseDevice(s string) ([2]uint64, bool) {
	major, minor, _ := strings.Cut(s, ":")
	a, errA := strconv.ParseUint(major, 10, 32)
	b, errB := strconv.ParseUint(minor, 10, 32)
	return [2]uint64{a, b}, errA == nil && errB == nil
}
