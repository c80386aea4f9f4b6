package profile

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// onlineCPUs is where the kernel lists the processors that run.
const onlineCPUs = "/sys/devices/system/cpu/online"

// events are the clocks that run the program, one for each processor.
type events struct {
	program   int // file descriptor
	frequency int
	open      map[int]int // processor to file descriptor
}

// follow has a clock on each of these processors and on no other. A processor
// that was taken away loses its clock for good, so it gets a new one when it
// comes back.
func (e *events) follow(cpus []int) error {
	wanted := make(map[int]bool, len(cpus))
	for _, c := range cpus {
		wanted[c] = true
	}
	for c, fd := range e.open {
		if !wanted[c] {
			unix.Close(fd)
			delete(e.open, c)
		}
	}
	for _, c := range cpus {
		if _, ok := e.open[c]; ok {
			continue
		}
		fd, err := e.clock(c)
		if errors.Is(err, unix.ENODEV) {
			continue // gone since
		}
		if err != nil {
			return err
		}
		e.open[c] = fd
	}
	return nil
}

func (e *events) clock(cpu int) (int, error) {
	attr := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK,
		Size: unix.PERF_ATTR_SIZE_VER1, Sample: uint64(e.frequency),
		Bits: unix.PerfBitFreq | unix.PerfBitExcludeIdle | unix.PerfBitDisabled,
	}
	fd, err := unix.PerfEventOpen(&attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if errors.Is(err, unix.EACCES) {
		err = unix.EPERM // kernel.perf_event_paranoid
	}
	if err != nil {
		return -1, fmt.Errorf("open a clock on processor %d: %w", cpu, err)
	}
	if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_SET_BPF, e.program); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("attach to the clock of processor %d: %w", cpu, err)
	}
	if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_ENABLE, 0); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("start the clock of processor %d: %w", cpu, err)
	}
	return fd, nil
}

func (e *events) close() {
	for c, fd := range e.open {
		unix.Close(fd)
		delete(e.open, c)
	}
}

// readCPUs reads the processors that run.
func readCPUs() ([]int, error) {
	b, err := os.ReadFile(onlineCPUs)
	if err != nil {
		return nil, fmt.Errorf("list the processors: %w", err)
	}
	return parseCPUs(strings.TrimSpace(string(b)))
}

// maxCPUs bounds what a list may name.
const maxCPUs = 16384

// parseCPUs reads a list such as 0-3,8,10-11.
func parseCPUs(list string) ([]int, error) {
	var cpus []int
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, err := strconv.Atoi(first)
		if err != nil {
			return nil, fmt.Errorf("list the processors: got %q: %w", list, err)
		}
		b, err := strconv.Atoi(last)
		if err != nil || a < 0 || b < a || b >= maxCPUs {
			return nil, fmt.Errorf("list the processors: got %q, want numbers and ranges", list)
		}
		for c := a; c <= b; c++ {
			cpus = append(cpus, c)
		}
	}
	return cpus, nil
}
