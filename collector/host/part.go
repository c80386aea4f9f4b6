package host

import (
	"context"
	"sync"
)

// collectFunc yields what a part has to say. It may yield samples and fail, too.
type collectFunc func(ctx context.Context, b *batch) error

// partialError is what a part returns that has collected what it could; as with
// node_exporter it has succeeded, and another metric tells.
type partialError struct{ error }

func (e *partialError) Unwrap() error { return e.error }

// part is a group of metrics; node_exporter calls it a collector.
type part struct {
	name string
	off  bool // unless it is enabled
	open func(*sources, *metrics) collectFunc
}

// simple adapts a part that needs neither a context nor the metrics.
func simple(open func(*sources) func(*batch) error) func(*sources, *metrics) collectFunc {
	return func(s *sources, _ *metrics) collectFunc {
		collect := open(s)
		return func(_ context.Context, b *batch) error { return collect(b) }
	}
}

// parts are in the order of their names. It is never written to.
var parts = []part{
	{name: "arp", open: simple(openARP)},
	{name: "bonding", open: simple(openBonding)},
	{name: "conntrack", open: simple(openConntrack)},
	{name: "cpu", open: simple(openCPU)},
	{name: "cpufreq", open: simple(openCPUFreq)},
	{name: "diskstats", open: simple(openDiskstats)},
	{name: "dmi", open: simple(openDMI)},
	{name: "edac", open: simple(openEDAC)},
	{name: "entropy", open: simple(openEntropy)},
	{name: "filefd", open: simple(openFileFD)},
	{name: "filesystem", open: openFilesystem},
	{name: "hwmon", open: simple(openHwmon)},
	{name: "ipvs", open: simple(openIPVS)},
	{name: "kernel_hung", open: simple(openKernelHung)},
	{name: "loadavg", open: simple(openLoadavg)},
	{name: "mdadm", open: simple(openMdadm)},
	{name: "meminfo", open: simple(openMeminfo)},
	{name: "netclass", open: simple(openNetclass)},
	{name: "netdev", open: simple(openNetdev)},
	{name: "netstat", open: simple(openNetstat)},
	{name: "nvme", open: simple(openNVMe)},
	{name: "os", open: simple(openOS)},
	{name: "powersupplyclass", open: simple(openPowerSupply)},
	{name: "pressure", open: simple(openPressure)},
	{name: "rapl", open: simple(openRAPL)},
	{name: "schedstat", open: simple(openSchedstat)},
	{name: "selinux", open: simple(openSELinux)},
	{name: "sockstat", open: simple(openSockstat)},
	{name: "softnet", open: simple(openSoftnet)},
	{name: "stat", open: simple(openStat)},
	{name: "systemd", off: true, open: openSystemd},
	{name: "textfile", open: simple(openTextfile)},
	{name: "thermal_zone", open: simple(openThermalZone)},
	{name: "time", open: simple(openTime)},
	{name: "timex", open: simple(openTimex)},
	{name: "udp_queues", open: simple(openUDPQueues)},
	{name: "uname", open: simple(openUname)},
	{name: "vmstat", open: simple(openVMStat)},
	{name: "watchdog", open: simple(openWatchdog)},
}

func partNames() []string {
	out := make([]string, len(parts))
	for i, p := range parts {
		out[i] = p.name
	}
	return out
}

// shared holds /proc/stat for the two parts that want it: making it costs the
// kernel more than the rest of a collection on a machine with many processors.
type shared struct {
	mu    sync.Mutex
	round uint64
	data  []byte
	err   error
}

// stat returns /proc/stat as it is in this round.
func (s *sources) stat(round uint64) ([]byte, error) {
	r := s.rounds
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.round != round {
		// The buffer is new: a part of an earlier round may still be reading.
		r.data, r.err = (&reader{buf: make([]byte, max(4096, len(r.data)+1024))}).read(s.proc("stat"))
		r.round = round
	}
	return r.data, r.err
}
