package container

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// procFS is the host's /proc.
type procFS string

func (p procFS) path(parts ...string) string {
	return filepath.Join(append([]string{string(p)}, parts...)...)
}

// bootTime is when the machine started, in Unix seconds.
func (p procFS) bootTime() int64 {
	stat, _ := readPairs(p.path("stat"))
	return int64(stat["btime"])
}

// startTime is when a process started, or 0.
func (p procFS) startTime(pid int, boot int64) int64 {
	data, ok := readFile(p.path(strconv.Itoa(pid), "stat"))
	if !ok {
		return 0
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:])) // from the third on
	if len(fields) < 20 {
		return 0
	}
	ticks, ok := parseUint(fields[19])
	if !ok {
		return 0
	}
	return boot + int64(ticks/clockTicks)
}

// meminfo is the machine's memory, in bytes.
func (p procFS) meminfo() map[string]uint64 {
	data, _ := readFile(p.path("meminfo"))
	info := map[string]uint64{}
	for line := range bytes.Lines(data) {
		key, value, _ := strings.Cut(string(line), ":")
		if fields := strings.Fields(value); len(fields) > 0 {
			if v, ok := parseUint(fields[0]); ok {
				if len(fields) == 2 { // kB
					v *= 1024
				}
				info[key] = v
			}
		}
	}
	return info
}

// netns names the network namespace of a process.
func (p procFS) netns(pid int) (string, error) {
	return os.Readlink(p.path(strconv.Itoa(pid), "ns", "net"))
}

// hostNetns names the network namespace of the host: init's, or if that is
// hidden from us, the kernel's threads'.
func (p procFS) hostNetns() (string, error) {
	ns, err := p.netns(1)
	if err != nil {
		if other, err := p.netns(2); err == nil {
			return other, nil
		}
	}
	return ns, err
}

// descriptors counts a process's open files. Since Linux 6.2 the folder's size
// says so without reading it.
func (p procFS) descriptors(pid int) int {
	dir := p.path(strconv.Itoa(pid), "fd")
	info, err := os.Stat(dir)
	if err != nil {
		return 0
	}
	if n := info.Size(); n > 0 && info.Mode().Perm() == 0o500 && n < 1<<20 {
		return int(n)
	}
	entries, _ := os.ReadDir(dir)
	return len(entries)
}

// netDevice is what went through an interface.
type netDevice struct {
	name string
	rx   [4]uint64 // bytes, packets, errors, dropped
	tx   [4]uint64
}

// Interfaces with these names lead to containers, or nowhere.
var ignoredDevices = []string{"lo", "veth", "docker", "nerdctl"}

// netDevices reads the interfaces that a process sees.
func (p procFS) netDevices(pid int) ([]netDevice, bool) {
	data, ok := readFile(p.path(strconv.Itoa(pid), "net", "dev"))
	if !ok {
		return nil, false
	}
	return parseNetDev(data), true
}

// parseNetDev reads /proc/net/dev: an interface a line after two of headings,
// with eight numbers for what came and eight for what went.
func parseNetDev(data []byte) []netDevice {
	var devices []netDevice
next:
	for line := range bytes.Lines(data) {
		name, numbers, found := strings.Cut(string(line), ":")
		fields := strings.Fields(numbers)
		if !found || len(fields) < 16 {
			continue
		}
		d := netDevice{name: strings.TrimSpace(name)}
		for _, prefix := range ignoredDevices {
			if strings.HasPrefix(strings.ToLower(d.name), prefix) {
				continue next
			}
		}
		for i := range d.rx {
			var okRx, okTx bool
			d.rx[i], okRx = parseUint(fields[i])
			d.tx[i], okTx = parseUint(fields[8+i])
			if !okRx || !okTx {
				continue next
			}
		}
		devices = append(devices, d)
	}
	return devices
}

// deviceNames maps numbers of block devices to names such as /dev/sda.
func (p procFS) deviceNames() map[[2]uint64]string {
	data, _ := readFile(p.path("partitions"))
	names := map[[2]uint64]string{}
	for line := range bytes.Lines(data) {
		fields := strings.Fields(string(line))
		if len(fields) != 4 {
			continue
		}
		if device, ok := parseDevice(fields[0] + ":" + fields[1]); ok {
			names[device] = "/dev/" + fields[3]
		}
	}
	return names
}

// cpus counts processors, cores and sockets.
func (p procFS) cpus() (logical, cores, sockets int) {
	data, _ := readFile(p.path("cpuinfo"))
	socketIDs, coreIDs := map[string]bool{}, map[string]bool{}
	socket := ""
	for line := range bytes.Lines(data) {
		key, value, _ := strings.Cut(string(line), ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "processor":
			logical++
		case "physical id":
			socket = value
			socketIDs[value] = true
		case "core id":
			coreIDs[socket+"/"+value] = true
		}
	}
	if len(coreIDs) == 0 { // not told on all architectures
		return logical, logical, max(1, len(socketIDs))
	}
	return logical, len(coreIDs), len(socketIDs)
}
