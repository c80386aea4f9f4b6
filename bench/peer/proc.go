package peer

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTick is the unit of CPU time in /proc, the same on every Linux port of Go.
const clockTick = 10 * time.Millisecond

// cpuTime reads user and system time of a process and all its threads.
func cpuTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	// The command name may hold spaces; fields are counted from its end.
	i := bytes.LastIndexByte(b, ')')
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 13 {
		return 0, fmt.Errorf("read CPU time: /proc/%d/stat has %d fields after the name, want 13 or more", pid, len(f))
	}
	var ticks int64
	for _, text := range f[11:13] { // utime, stime
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read CPU time: /proc/%d/stat: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

// Memory is what /proc says of a process's memory, in bytes.
type Memory struct {
	Peak int64 `json:"peak"` // highest resident set since ResetPeak, or ever, mapped files included
	RSS  int64 `json:"rss"`
	Anon int64 `json:"anon"` // resident and not backed by a file
	File int64 `json:"file"` // resident pages of mapped files
}

func memory(pid int) (Memory, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Memory{}, fmt.Errorf("read memory use: %w", err)
	}
	var m Memory
	fields := map[string]*int64{"VmHWM:": &m.Peak, "VmRSS:": &m.RSS, "RssAnon:": &m.Anon, "RssFile:": &m.File}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 || fields[f[0]] == nil {
			continue
		}
		kib, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return Memory{}, fmt.Errorf("read memory use: /proc/%d/status: %w", pid, err)
		}
		*fields[f[0]] = kib << 10
	}
	if m.Peak == 0 {
		return Memory{}, fmt.Errorf("read memory use: /proc/%d/status has no VmHWM", pid)
	}
	return m, nil
}

// resetPeak makes Memory.Peak begin anew.
func resetPeak(pid int) error {
	const peak = "5" // see proc_pid_clear_refs(5)
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte(peak), 0); err != nil {
		return fmt.Errorf("reset the peak of memory use: %w", err)
	}
	return nil
}

// mapMemory adds up what the kernel holds for the BPF maps that a process has open.
func mapMemory(pid int) (int64, error) {
	dir := fmt.Sprintf("/proc/%d/fdinfo", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("read memory of BPF maps: %w", err)
	}
	seen := map[string]bool{} // a map may be open more than once
	var sum int64
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // closed
		}
		fields := map[string]string{}
		for line := range strings.Lines(string(b)) {
			key, value, _ := strings.Cut(line, ":")
			fields[key] = strings.TrimSpace(value)
		}
		id := fields["map_id"]
		if id == "" || seen[id] {
			continue
		}
		seen[id] = true
		n, err := strconv.ParseInt(fields["memlock"], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read memory of BPF map %s: %w", id, err)
		}
		sum += n
	}
	return sum, nil
}

// Disk is what a directory takes.
type Disk struct {
	Bytes     int64 `json:"bytes"`     // sum of file sizes
	Allocated int64 `json:"allocated"` // sum of allocated disk space
	Files     int   `json:"files"`
}

// Add returns the sum of both.
func (d Disk) Add(o Disk) Disk {
	return Disk{d.Bytes + o.Bytes, d.Allocated + o.Allocated, d.Files + o.Files}
}

// DiskUse adds up a directory tree, a hard-linked file once. Files that vanish
// meanwhile and a missing directory count nothing.
func DiskUse(dir string) (Disk, error) {
	var d Disk
	seen := map[uint64]bool{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			if seen[st.Ino] {
				return nil
			}
			seen[st.Ino] = true
			d.Allocated += st.Blocks * 512
		}
		d.Bytes += info.Size()
		d.Files++
		return nil
	})
	if err != nil {
		return d, fmt.Errorf("add up %s: %w", dir, err)
	}
	return d, nil
}
