package gpu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ErrAbsent says that this machine has no GPU of NVIDIA's, or no driver for it.
var ErrAbsent = errors.New("no NVIDIA GPU here")

// Library reads all GPUs of a machine.
type Library interface {
	// Read returns what the GPUs say now. An error that wraps ErrAbsent says that
	// there are none.
	Read(ctx context.Context) (Snapshot, error)

	// Close releases what Read uses.
	Close() error
}

// Snapshot is what all GPUs of a machine say at one time.
type Snapshot struct {
	Driver  string   `json:"driver"`
	Devices []Device `json:"devices"`
}

// Device is one GPU. Readings has what it supports, in NVML's units.
type Device struct {
	Index     int                `json:"index"`
	Minor     int                `json:"minor"` // of /dev/nvidia<minor>
	UUID      string             `json:"uuid"`
	Name      string             `json:"name"`
	BusID     string             `json:"bus_id"`
	Readings  map[Reading]uint64 `json:"readings"`
	Processes []Process          `json:"processes,omitempty"`
}

// Process is a process on a GPU.
type Process struct {
	PID    uint32 `json:"pid"`
	Name   string `json:"name,omitempty"`
	Memory uint64 `json:"memory"` // bytes

	// Busy is the share of time in percent by engine: sm, memory, encoder, decoder.
	Busy map[string]uint32 `json:"busy,omitempty"`
}

// Reading names a value of a GPU.
type Reading string

// The readings, with NVML's units.
const (
	SMClock            Reading = "sm_clock_mhz"
	MemoryClock        Reading = "memory_clock_mhz"
	Temperature        Reading = "temperature_celsius"
	MemoryTemperature  Reading = "memory_temperature_celsius"
	Power              Reading = "power_mw"
	PowerLimit         Reading = "power_limit_mw"
	EnforcedPowerLimit Reading = "enforced_power_limit_mw"
	Energy             Reading = "energy_mj"
	Fan                Reading = "fan_percent"
	PerformanceState   Reading = "performance_state"
	PCIeReplays        Reading = "pcie_replays"
	GPUBusy            Reading = "gpu_busy_percent"
	MemoryBusy         Reading = "memory_busy_percent"
	EncoderBusy        Reading = "encoder_busy_percent"
	DecoderBusy        Reading = "decoder_busy_percent"
	LastXID            Reading = "last_xid"
	MemoryTotal        Reading = "memory_total_bytes"
	MemoryFree         Reading = "memory_free_bytes"
	MemoryUsed         Reading = "memory_used_bytes"
	MemoryReserved     Reading = "memory_reserved_bytes"
	ECCSingleVolatile  Reading = "ecc_single_volatile"
	ECCDoubleVolatile  Reading = "ecc_double_volatile"
	ECCSingleTotal     Reading = "ecc_single_total"
	ECCDoubleTotal     Reading = "ecc_double_total"
	RetiredSingle      Reading = "retired_pages_single"
	RetiredDouble      Reading = "retired_pages_double"
	RetiredPending     Reading = "retired_pages_pending"
	RemappedCorrected  Reading = "remapped_rows_corrected"
	RemappedFatal      Reading = "remapped_rows_uncorrected"
	RemapFailed        Reading = "row_remap_failed"
	LinkFlitErrors     Reading = "nvlink_flit_errors"
	LinkDataErrors     Reading = "nvlink_data_errors"
	LinkReplays        Reading = "nvlink_replays"
	LinkRecoveries     Reading = "nvlink_recoveries"
	LinkSent           Reading = "nvlink_sent_kib"
	LinkReceived       Reading = "nvlink_received_kib"
	ClockEvents        Reading = "clock_event_reasons"
	PowerViolation     Reading = "power_violation_ns"
	ThermalViolation   Reading = "thermal_violation_ns"
	SyncViolation      Reading = "sync_boost_violation_ns"
	BoardViolation     Reading = "board_limit_violation_ns"
	IdleViolation      Reading = "low_util_violation_ns"
	ReliableViolation  Reading = "reliability_violation_ns"
)

// answer is a line of the helper's.
type answer struct {
	Snapshot Snapshot `json:"snapshot"`
	Error    string   `json:"error,omitempty"`
}

// Serve answers every line that comes in with a line of what the library reads,
// until in ends.
func Serve(ctx context.Context, lib Library, in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	encode := json.NewEncoder(out)
	for lines.Scan() {
		s, err := lib.Read(ctx)
		a := answer{Snapshot: s}
		if err != nil {
			a.Error = err.Error()
		}
		if err := encode.Encode(a); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
	return lines.Err()
}
