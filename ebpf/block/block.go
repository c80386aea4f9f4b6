package block

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
)

// devices is where the kernel lists its block devices.
const devices = "/sys/block"

// bounds of the histograms, in seconds: from what memory takes to what a disk
// that fails does.
var bounds = []float64{0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// operations by the kernel's number.
var operations = [...]string{"read", "write", "flush", "discard", "write_zeroes", "other"}

// statuses by blk_status_t, as far as it is the same in all kernels.
var statuses = [...]string{"ok", "not_supported", "timeout", "no_space", "transport", "target", "reservation_conflict", "medium", "protection", "resource", "io_error"}

// lostReasons names the kernel's counters of what was not counted.
var lostReasons = map[bpf.BlockBlockStat]string{
	bpf.BlockBlockStatBLOCK_STAT_FULL:     "map_full",
	bpf.BlockBlockStatBLOCK_STAT_UNISSUED: "unissued",
}

// Feature counts requests to block devices.
type Feature struct {
	duration, queue, bytes, lost *prometheus.Desc
	labels                       feature.LabelNames // of all but lost

	mu      sync.Mutex
	objects *bpf.BlockObjects // nil: not loaded; under mu
	links   []link.Link
	buckets *feature.Buckets
	gone    map[bpf.BlockBlockKey]time.Time // when a device was first missed
}

// New returns the feature, not loaded.
func New() *Feature {
	labels := []string{"device", "operation", "status"}
	return &Feature{
		labels:   feature.NewLabelNames(labels...),
		duration: prometheus.NewDesc("block_io_duration_seconds", "Duration of requests to block devices, from their making to their end.", labels, nil),
		queue:    prometheus.NewDesc("block_io_queue_duration_seconds", "How long requests to block devices waited before the driver had them.", labels, nil),
		bytes:    prometheus.NewDesc("block_io_bytes_total", "Bytes read from, written to or discarded from block devices.", labels, nil),
		lost:     prometheus.NewDesc("vedette_ebpf_block_lost_total", "Requests to block devices that were not counted, by reason.", []string{"reason"}, nil),
	}
}

// Name is block.
func (f *Feature) Name() string { return "block" }

// Ladder has one way.
func (f *Feature) Ladder() []feature.Rung { return []feature.Rung{{Way: "tracepoints", Load: f.load}} }

func (f *Feature) load(env *feature.Environment) error {
	buckets, err := feature.NewBuckets(bounds)
	if err != nil {
		return fmt.Errorf("BUG: bounds of block requests: %w", err)
	}
	spec, err := bpf.LoadBlock()
	if err != nil {
		return fmt.Errorf("read the block programs: %w", err)
	}
	spec.Maps[bpf.BlockMapBlocks].MaxEntries = uint32(env.MaxSeries)
	for name, v := range map[string]any{bpf.BlockVarEdge: buckets.Edge, bpf.BlockVarSlot: buckets.Slot} {
		if err := spec.Variables[name].Set(v); err != nil {
			return fmt.Errorf("set %s of the block programs: %w", name, err)
		}
	}
	objects := new(bpf.BlockObjects)
	if err := spec.LoadAndAssign(objects, &ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogDisabled: true}}); err != nil {
		return fmt.Errorf("load the block programs: %w", err)
	}
	// First what begins requests, so that few end that are not known.
	links, err := feature.AttachAll(objects.BlockIssue, objects.BlockComplete)
	if err != nil {
		objects.Close()
		return fmt.Errorf("attach the block programs: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.objects, f.links, f.buckets, f.gone = objects, links, buckets, make(map[bpf.BlockBlockKey]time.Time)
	return nil
}

// Anonymous: requests belong to devices.
func (f *Feature) Anonymous() {}

// Arrivals is nil: requests belong to devices, not to processes.
func (f *Feature) Arrivals() *ebpf.Map { return nil }

// Sweep forgets devices that have been gone for KeepRetired.
func (f *Feature) Sweep(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil {
		return
	}
	var forget []bpf.BlockBlockKey
	missed := make(map[bpf.BlockBlockKey]time.Time)
	err := feature.EachEntry(f.objects.Blocks, func(k bpf.BlockBlockKey, _ *bpf.BlockBlockValue) {
		if _, err := os.Stat(filepath.Join(devices, strings.ReplaceAll(diskOf(k), "/", "!"))); !errors.Is(err, os.ErrNotExist) {
			return
		}
		since, known := f.gone[k]
		if !known {
			since = now
		}
		missed[k] = since
		if now.Sub(since) > feature.KeepRetired {
			forget = append(forget, k)
		}
	})
	if err != nil {
		return // Collect reports it
	}
	f.gone = missed
	for _, k := range forget {
		_ = f.objects.Blocks.Delete(k)
	}
}

// Close detaches the programs.
func (f *Feature) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := errors.Join(feature.CloseAll(f.links), f.objects.Close())
	f.objects, f.links = nil, nil
	return err
}

// Describe sends the descriptions.
func (f *Feature) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{f.duration, f.queue, f.bytes, f.lost} {
		ch <- d
	}
}

// Collect reads the kernel's counts.
func (f *Feature) Collect(ch chan<- prometheus.Metric) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil {
		return
	}
	err := feature.EachEntry(f.objects.Blocks, func(k bpf.BlockBlockKey, v *bpf.BlockBlockValue) {
		labels := f.labels.Pairs(diskOf(k), nameOf(operations[:], k.Operation), nameOf(statuses[:], k.Status))
		ch <- f.buckets.Histogram(f.duration, labels, v.Total[:], float64(v.TotalNs)/1e9)
		ch <- f.buckets.Histogram(f.queue, labels, v.Queue[:], float64(v.QueueNs)/1e9)
		if k.Operation != uint8(bpf.BlockBlockOperationBLOCK_FLUSH) {
			ch <- feature.NewCounter(f.bytes, labels, float64(v.Bytes))
		}
	})
	if err != nil {
		ch <- prometheus.NewInvalidMetric(f.lost, err)
		return
	}
	lost := func(reason string, n uint64) {
		ch <- prometheus.MustNewConstMetric(f.lost, prometheus.CounterValue, float64(n), reason)
	}
	if err := feature.EachStat(f.objects.Stats, lostReasons, lost); err != nil {
		ch <- prometheus.NewInvalidMetric(f.lost, err)
		return
	}
	lost("recursion", feature.Missed(f.objects.BlockIssue, f.objects.BlockComplete))
}

func diskOf(k bpf.BlockBlockKey) string {
	b := (*[len(k.Disk)]byte)(unsafe.Pointer(&k.Disk))[:]
	name, _, _ := bytes.Cut(b, []byte{0})
	return string(name)
}

// nameOf names a number that may be new.
func nameOf(names []string, n uint8) string {
	if int(n) < len(names) {
		return names[n]
	}
	return strconv.Itoa(int(n))
}
