package gpu

import "github.com/prometheus/client_golang/prometheus"

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

const mebi = 1.0 / (1 << 20)

// family is a metric that is one reading times a factor, or the sum of two.
type family struct {
	name, help string
	kind       prometheus.ValueType
	from       Reading
	factor     float64
	plus       Reading

	desc *prometheus.Desc
}

// families are the metrics of GPUs, with the DCGM exporter's names and words.
func families() []*family {
	return []*family{
		{name: "SM_CLOCK", help: "SM clock frequency (in MHz).", kind: gauge, from: SMClock, factor: 1},
		{name: "MEM_CLOCK", help: "Memory clock frequency (in MHz).", kind: gauge, from: MemoryClock, factor: 1},
		{name: "MEMORY_TEMP", help: "Memory temperature (in C).", kind: gauge, from: MemoryTemperature, factor: 1},
		{name: "GPU_TEMP", help: "GPU temperature (in C).", kind: gauge, from: Temperature, factor: 1},
		{name: "POWER_USAGE", help: "Power draw (in W).", kind: gauge, from: Power, factor: 1e-3},
		{name: "POWER_MGMT_LIMIT", help: "Current power limit for the device (in W).", kind: gauge, from: PowerLimit, factor: 1e-3},
		{name: "ENFORCED_POWER_LIMIT", help: "Effective power limit that the driver enforces (in W).", kind: gauge, from: EnforcedPowerLimit, factor: 1e-3},
		{name: "TOTAL_ENERGY_CONSUMPTION", help: "Total energy consumption since boot (in mJ).", kind: counter, from: Energy, factor: 1},
		{name: "FAN_SPEED", help: "Fan speed for the device in percent 0-100.", kind: gauge, from: Fan, factor: 1},
		{name: "PSTATE", help: "Performance state (P-State) 0-15. 0=highest.", kind: gauge, from: PerformanceState, factor: 1},
		{name: "PCIE_REPLAY_COUNTER", help: "Total number of PCIe retries.", kind: counter, from: PCIeReplays, factor: 1},
		{name: "GPU_UTIL", help: "GPU utilization (in %).", kind: gauge, from: GPUBusy, factor: 1},
		{name: "MEM_COPY_UTIL", help: "Memory utilization (in %).", kind: gauge, from: MemoryBusy, factor: 1},
		{name: "ENC_UTIL", help: "Encoder utilization (in %).", kind: gauge, from: EncoderBusy, factor: 1},
		{name: "DEC_UTIL", help: "Decoder utilization (in %).", kind: gauge, from: DecoderBusy, factor: 1},
		{name: "XID_ERRORS", help: "Value of the last XID error encountered.", kind: gauge, from: LastXID, factor: 1},
		{name: "FB_TOTAL", help: "Total framebuffer memory (in MiB).", kind: gauge, from: MemoryTotal, factor: mebi},
		{name: "FB_FREE", help: "Framebuffer memory free (in MiB).", kind: gauge, from: MemoryFree, factor: mebi},
		{name: "FB_USED", help: "Framebuffer memory used (in MiB).", kind: gauge, from: MemoryUsed, factor: mebi},
		{name: "FB_RESERVED", help: "Framebuffer memory reserved (in MiB).", kind: gauge, from: MemoryReserved, factor: mebi},
		{name: "ECC_SBE_VOL_TOTAL", help: "Total number of single-bit volatile ECC errors.", kind: counter, from: ECCSingleVolatile, factor: 1},
		{name: "ECC_DBE_VOL_TOTAL", help: "Total number of double-bit volatile ECC errors.", kind: counter, from: ECCDoubleVolatile, factor: 1},
		{name: "ECC_SBE_AGG_TOTAL", help: "Total number of single-bit persistent ECC errors.", kind: counter, from: ECCSingleTotal, factor: 1},
		{name: "ECC_DBE_AGG_TOTAL", help: "Total number of double-bit persistent ECC errors.", kind: counter, from: ECCDoubleTotal, factor: 1},
		{name: "RETIRED_SBE", help: "Total number of retired pages due to single-bit errors.", kind: counter, from: RetiredSingle, factor: 1},
		{name: "RETIRED_DBE", help: "Total number of retired pages due to double-bit errors.", kind: counter, from: RetiredDouble, factor: 1},
		{name: "RETIRED_PENDING", help: "Total number of pages pending retirement.", kind: counter, from: RetiredPending, factor: 1},
		{name: "UNCORRECTABLE_REMAPPED_ROWS", help: "Number of remapped rows for uncorrectable errors", kind: counter, from: RemappedFatal, factor: 1},
		{name: "CORRECTABLE_REMAPPED_ROWS", help: "Number of remapped rows for correctable errors", kind: counter, from: RemappedCorrected, factor: 1},
		{name: "ROW_REMAP_FAILURE", help: "Whether remapping of rows has failed", kind: gauge, from: RemapFailed, factor: 1},
		{name: "NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", help: "Total number of NVLink flow-control CRC errors.", kind: counter, from: LinkFlitErrors, factor: 1},
		{name: "NVLINK_CRC_DATA_ERROR_COUNT_TOTAL", help: "Total number of NVLink data CRC errors.", kind: counter, from: LinkDataErrors, factor: 1},
		{name: "NVLINK_REPLAY_ERROR_COUNT_TOTAL", help: "Total number of NVLink retries.", kind: counter, from: LinkReplays, factor: 1},
		{name: "NVLINK_RECOVERY_ERROR_COUNT_TOTAL", help: "Total number of NVLink recovery errors.", kind: counter, from: LinkRecoveries, factor: 1},
		{name: "NVLINK_BANDWIDTH_TOTAL", help: "Total number of NVLink bandwidth counters for all lanes.", kind: counter, from: LinkSent, plus: LinkReceived, factor: 1},
		{name: "CLOCK_THROTTLE_REASONS", help: "Current clock throttle reasons (bitmask of DCGM_CLOCKS_THROTTLE_REASON_*).", kind: gauge, from: ClockEvents, factor: 1},
		{name: "POWER_VIOLATION", help: "Throttling duration due to power constraints (in ns).", kind: counter, from: PowerViolation, factor: 1},
		{name: "THERMAL_VIOLATION", help: "Throttling duration due to thermal constraints (in ns).", kind: counter, from: ThermalViolation, factor: 1},
		{name: "SYNC_BOOST_VIOLATION", help: "Throttling duration due to sync-boost constraints (in ns).", kind: counter, from: SyncViolation, factor: 1},
		{name: "BOARD_LIMIT_VIOLATION", help: "Throttling duration due to board limit constraints (in ns).", kind: counter, from: BoardViolation, factor: 1},
		{name: "LOW_UTIL_VIOLATION", help: "Throttling duration due to low utilization (in ns).", kind: counter, from: IdleViolation, factor: 1},
		{name: "RELIABILITY_VIOLATION", help: "Throttling duration due to reliability constraints (in ns).", kind: counter, from: ReliableViolation, factor: 1},
	}
}

// clockEvents are the bits of ClockEvents, by DCGM's words for them.
func clockEvents() []string {
	return []string{
		"gpu_idle", "clocks_setting", "power_cap", "hw_slowdown", "sync_boost",
		"sw_thermal", "hw_thermal", "hw_power_brake", "display_clocks",
	}
}
