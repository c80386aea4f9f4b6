package nvml

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"github.com/vedette-io/vedette/collector/gpu"
)

// status is what NVML's functions return.
type status int32

const (
	success          status = 0
	insufficientSize status = 7
	driverNotLoaded  status = 9
	libraryNotFound  status = 12
	gpuNotFound      status = 28
)

// device is NVML's handle of a GPU.
type device uintptr

const (
	nameSize     = 96
	maxProcesses = 4096
	xidEvent     = 8
	allLinks     = ^uint32(0)
	memoryV2     = 2<<24 | uint32(unsafe.Sizeof(memoryInfo2{}))
	notAvailable = ^uint64(0)
	eventsAtOnce = 64
)

// The structures of nvml.h, in its order.
type (
	pciInfo struct {
		_  [16]byte // the older form of id
		_  [5]uint32
		id [32]byte
	}
	memoryInfo  struct{ total, free, used uint64 }
	memoryInfo2 struct {
		version                     uint32
		total, reserved, free, used uint64
	}
	utilization struct{ gpu, memory uint32 }
	processInfo struct {
		pid    uint32
		memory uint64
		_      [2]uint32 // instances, with MIG
	}
	processSample struct {
		pid                          uint32
		time                         uint64
		sm, memory, encoder, decoder uint32
	}
	fieldValue struct {
		id, scope uint32
		_         [2]int64 // time, latency
		kind      uint32
		result    status
		value     uint64
	}
	event struct {
		device     device
		kind, data uint64
		_          [2]uint32 // instances, with MIG
	}
	violation struct {
		_     uint64 // reference time
		nanos uint64
	}
)

// functions are NVML's, nil if the driver does not have them.
type functions struct {
	initialize    func() status
	shutdown      func() status
	driverVersion func(*byte, uint32) status
	count         func(*uint32) status
	handle        func(uint32, *device) status
	uuid          func(device, *byte, uint32) status
	name          func(device, *byte, uint32) status
	minor         func(device, *uint32) status
	pci           func(device, *pciInfo) status
	memory        func(device, *memoryInfo) status
	memory2       func(device, *memoryInfo2) status
	utilization   func(device, *utilization) status
	temperature   func(device, uint32, *uint32) status
	clock         func(device, uint32, *uint32) status
	power         func(device, *uint32) status
	powerLimit    func(device, *uint32) status
	enforcedLimit func(device, *uint32) status
	energy        func(device, *uint64) status
	fan           func(device, *uint32) status
	state         func(device, *uint32) status
	replays       func(device, *uint32) status
	encoder       func(device, *uint32, *uint32) status
	decoder       func(device, *uint32, *uint32) status
	ecc           func(device, uint32, uint32, *uint64) status
	clockEvents   func(device, *uint64) status
	clockReasons  func(device, *uint64) status
	remapped      func(device, *uint32, *uint32, *uint32, *uint32) status
	violation     func(device, uint32, *violation) status
	fields        func(device, int32, *fieldValue) status
	compute       func(device, *uint32, *processInfo) status
	graphics      func(device, *uint32, *processInfo) status
	samples       func(device, *processSample, *uint32, uint64) status
	newEvents     func(*uintptr) status
	register      func(device, uint64, uintptr) status
	wait          func(uintptr, *event, uint32) status
	freeEvents    func(uintptr) status
}

// symbols are the names of the functions in the library.
func (f *functions) symbols() map[string]any {
	return map[string]any{
		"nvmlInit_v2": &f.initialize, "nvmlShutdown": &f.shutdown, "nvmlSystemGetDriverVersion": &f.driverVersion,
		"nvmlDeviceGetCount_v2": &f.count, "nvmlDeviceGetHandleByIndex_v2": &f.handle,
		"nvmlDeviceGetUUID": &f.uuid, "nvmlDeviceGetName": &f.name, "nvmlDeviceGetMinorNumber": &f.minor, "nvmlDeviceGetPciInfo_v3": &f.pci,
		"nvmlDeviceGetMemoryInfo": &f.memory, "nvmlDeviceGetMemoryInfo_v2": &f.memory2, "nvmlDeviceGetUtilizationRates": &f.utilization,
		"nvmlDeviceGetTemperature": &f.temperature, "nvmlDeviceGetClockInfo": &f.clock,
		"nvmlDeviceGetPowerUsage": &f.power, "nvmlDeviceGetPowerManagementLimit": &f.powerLimit, "nvmlDeviceGetEnforcedPowerLimit": &f.enforcedLimit,
		"nvmlDeviceGetTotalEnergyConsumption": &f.energy, "nvmlDeviceGetFanSpeed": &f.fan, "nvmlDeviceGetPerformanceState": &f.state,
		"nvmlDeviceGetPcieReplayCounter": &f.replays, "nvmlDeviceGetEncoderUtilization": &f.encoder, "nvmlDeviceGetDecoderUtilization": &f.decoder,
		"nvmlDeviceGetTotalEccErrors": &f.ecc, "nvmlDeviceGetCurrentClocksEventReasons": &f.clockEvents,
		"nvmlDeviceGetCurrentClocksThrottleReasons": &f.clockReasons, "nvmlDeviceGetRemappedRows": &f.remapped,
		"nvmlDeviceGetViolationStatus": &f.violation, "nvmlDeviceGetFieldValues": &f.fields,
		"nvmlDeviceGetComputeRunningProcesses_v3": &f.compute, "nvmlDeviceGetGraphicsRunningProcesses_v3": &f.graphics,
		"nvmlDeviceGetProcessUtilization": &f.samples, "nvmlEventSetCreate": &f.newEvents, "nvmlDeviceRegisterEvents": &f.register,
		"nvmlEventSetWait_v2": &f.wait, "nvmlEventSetFree": &f.freeEvents,
	}
}

// Library is NVML. Its methods are for one goroutine at a time.
type Library struct {
	f          functions
	events     uintptr // 0 if the driver has none
	registered map[device]bool
	xid        map[device]uint64
	sampled    map[device]uint64 // time of the last sample of processes
}

// newLibrary initializes a library that is loaded.
func newLibrary(f functions) (*Library, error) {
	if f.initialize == nil || f.count == nil || f.handle == nil || f.uuid == nil {
		return nil, fmt.Errorf("load NVML: got a library without its functions")
	}
	switch s := f.initialize(); s {
	case success:
	case driverNotLoaded, libraryNotFound, gpuNotFound:
		return nil, fmt.Errorf("%w: initialize NVML: status %d", gpu.ErrAbsent, s)
	default:
		return nil, fmt.Errorf("initialize NVML: got status %d, want 0", s)
	}
	l := &Library{f: f, registered: map[device]bool{}, xid: map[device]uint64{}, sampled: map[device]uint64{}}
	if f.newEvents == nil || f.register == nil || f.wait == nil || f.newEvents(&l.events) != success {
		l.events = 0
	}
	return l, nil
}

// Close implements gpu.Library.
func (l *Library) Close() error {
	if l.events != 0 && l.f.freeEvents != nil {
		l.f.freeEvents(l.events)
	}
	if l.f.shutdown == nil {
		return nil
	}
	if s := l.f.shutdown(); s != success {
		return fmt.Errorf("shut NVML down: got status %d, want 0", s)
	}
	return nil
}

// Read implements gpu.Library.
func (l *Library) Read(context.Context) (gpu.Snapshot, error) {
	var n uint32
	if s := l.f.count(&n); s != success {
		return gpu.Snapshot{}, fmt.Errorf("count GPUs: got status %d, want 0", s)
	}
	var snapshot gpu.Snapshot
	if l.f.driverVersion != nil {
		snapshot.Driver, _ = text(l.f.driverVersion)
	}
	l.takeEvents()
	for i := range n {
		var d device
		if l.f.handle(i, &d) != success {
			continue // fell off the bus, or not for us
		}
		one := gpu.Device{Index: int(i), Readings: map[gpu.Reading]uint64{}}
		if !l.identify(d, &one) {
			continue
		}
		l.watch(d)
		l.readNumbers(d, one.Readings)
		l.readMemory(d, one.Readings)
		l.readErrors(d, one.Readings)
		l.readFields(d, one.Readings)
		one.Processes = l.processes(d)
		snapshot.Devices = append(snapshot.Devices, one)
	}
	return snapshot, nil
}

// text calls a function that fills a buffer.
func text(f func(*byte, uint32) status) (string, bool) {
	var buf [nameSize]byte
	if f(&buf[0], nameSize) != success {
		return "", false
	}
	return cString(buf[:]), true
}

func cString(b []byte) string {
	if end := bytes.IndexByte(b, 0); end >= 0 {
		b = b[:end]
	}
	return string(b)
}

func (l *Library) identify(d device, one *gpu.Device) bool {
	of := func(f func(device, *byte, uint32) status) (string, bool) {
		if f == nil {
			return "", false
		}
		return text(func(b *byte, n uint32) status { return f(d, b, n) })
	}
	var ok bool
	if one.UUID, ok = of(l.f.uuid); !ok {
		return false
	}
	one.Name, _ = of(l.f.name)
	one.Minor = one.Index
	var minor uint32
	if l.f.minor != nil && l.f.minor(d, &minor) == success {
		one.Minor = int(minor)
	}
	var pci pciInfo
	if l.f.pci != nil && l.f.pci(d, &pci) == success {
		one.BusID = cString(pci.id[:])
	}
	return true
}

// watch asks for the events of a GPU, once.
func (l *Library) watch(d device) {
	if l.events == 0 || l.registered[d] {
		return
	}
	l.registered[d] = true
	if _, ok := l.xid[d]; !ok && l.f.register(d, xidEvent, l.events) == success {
		l.xid[d] = 0
	}
}

// takeEvents notes the last error of each GPU, without waiting.
func (l *Library) takeEvents() {
	if l.events == 0 {
		return
	}
	for range eventsAtOnce {
		var e event
		if l.f.wait(l.events, &e, 0) != success {
			return
		}
		if e.kind&xidEvent != 0 {
			l.xid[e.device] = e.data
		}
	}
}

func (l *Library) readNumbers(d device, to map[gpu.Reading]uint64) {
	small := func(r gpu.Reading, f func(device, *uint32) status) {
		var v uint32
		if f != nil && f(d, &v) == success {
			to[r] = uint64(v)
		}
	}
	small(gpu.Power, l.f.power)
	small(gpu.PowerLimit, l.f.powerLimit)
	small(gpu.EnforcedPowerLimit, l.f.enforcedLimit)
	small(gpu.Fan, l.f.fan)
	small(gpu.PerformanceState, l.f.state)
	small(gpu.PCIeReplays, l.f.replays)
	chosen := func(r gpu.Reading, f func(device, uint32, *uint32) status, which uint32) {
		if f != nil {
			small(r, func(d device, v *uint32) status { return f(d, which, v) })
		}
	}
	chosen(gpu.Temperature, l.f.temperature, 0)
	chosen(gpu.SMClock, l.f.clock, 1)
	chosen(gpu.MemoryClock, l.f.clock, 2)
	for r, f := range map[gpu.Reading]func(device, *uint32, *uint32) status{gpu.EncoderBusy: l.f.encoder, gpu.DecoderBusy: l.f.decoder} {
		if f != nil {
			small(r, func(d device, v *uint32) status { var period uint32; return f(d, v, &period) })
		}
	}
	var busy utilization
	if l.f.utilization != nil && l.f.utilization(d, &busy) == success {
		to[gpu.GPUBusy], to[gpu.MemoryBusy] = uint64(busy.gpu), uint64(busy.memory)
	}
	var energy uint64
	if l.f.energy != nil && l.f.energy(d, &energy) == success {
		to[gpu.Energy] = energy
	}
	for _, f := range []func(device, *uint64) status{l.f.clockEvents, l.f.clockReasons} { // the newer name first
		var bits uint64
		if f != nil && f(d, &bits) == success {
			to[gpu.ClockEvents] = bits
			break
		}
	}
	for policy, r := range []gpu.Reading{gpu.PowerViolation, gpu.ThermalViolation, gpu.SyncViolation, gpu.BoardViolation, gpu.IdleViolation, gpu.ReliableViolation} {
		var v violation
		if l.f.violation != nil && l.f.violation(d, uint32(policy), &v) == success {
			to[r] = v.nanos
		}
	}
	if xid, ok := l.xid[d]; ok {
		to[gpu.LastXID] = xid
	}
}

func (l *Library) readMemory(d device, to map[gpu.Reading]uint64) {
	newer := memoryInfo2{version: memoryV2}
	if l.f.memory2 != nil && l.f.memory2(d, &newer) == success {
		to[gpu.MemoryTotal], to[gpu.MemoryFree], to[gpu.MemoryUsed], to[gpu.MemoryReserved] = newer.total, newer.free, newer.used, newer.reserved
		return
	}
	var older memoryInfo
	if l.f.memory != nil && l.f.memory(d, &older) == success {
		to[gpu.MemoryTotal], to[gpu.MemoryFree], to[gpu.MemoryUsed] = older.total, older.free, older.used
	}
}

func (l *Library) readErrors(d device, to map[gpu.Reading]uint64) {
	for since, readings := range [][2]gpu.Reading{{gpu.ECCSingleVolatile, gpu.ECCDoubleVolatile}, {gpu.ECCSingleTotal, gpu.ECCDoubleTotal}} {
		for severity, r := range readings {
			var v uint64
			if l.f.ecc != nil && l.f.ecc(d, uint32(severity), uint32(since), &v) == success {
				to[r] = v
			}
		}
	}
	var corrected, uncorrected, pending, failed uint32
	if l.f.remapped != nil && l.f.remapped(d, &corrected, &uncorrected, &pending, &failed) == success {
		to[gpu.RemappedCorrected], to[gpu.RemappedFatal], to[gpu.RemapFailed] = uint64(corrected), uint64(uncorrected), uint64(failed)
	}
}

// readFields reads the values that NVML numbers instead of having functions.
func (l *Library) readFields(d device, to map[gpu.Reading]uint64) {
	if l.f.fields == nil {
		return
	}
	wanted := []struct {
		id, scope uint32
		reading   gpu.Reading
	}{
		{82, 0, gpu.MemoryTemperature},
		{29, 0, gpu.RetiredSingle}, {30, 0, gpu.RetiredDouble}, {31, 0, gpu.RetiredPending},
		{38, 0, gpu.LinkFlitErrors}, {45, 0, gpu.LinkDataErrors}, {52, 0, gpu.LinkReplays}, {59, 0, gpu.LinkRecoveries},
		{138, allLinks, gpu.LinkSent}, {139, allLinks, gpu.LinkReceived},
	}
	values := make([]fieldValue, len(wanted))
	for i, w := range wanted {
		values[i] = fieldValue{id: w.id, scope: w.scope}
	}
	if l.f.fields(d, int32(len(values)), &values[0]) != success {
		return
	}
	for i, w := range wanted {
		if v, ok := values[i].number(); ok && values[i].result == success {
			to[w.reading] = v
		}
	}
}

// number is the value of a field, if it is a whole number.
func (v fieldValue) number() (uint64, bool) {
	switch v.kind {
	case 1: // unsigned int
		return uint64(uint32(v.value)), true
	case 2, 3: // unsigned long, unsigned long long
		return v.value, true
	case 4: // signed long long
		return v.value, int64(v.value) >= 0
	case 5: // int
		return uint64(uint32(v.value)), int32(v.value) >= 0
	case 6: // unsigned short
		return uint64(uint16(v.value)), true
	}
	return 0, false
}

// processes are those that compute and those that draw.
func (l *Library) processes(d device) []gpu.Process {
	found := map[uint32]*gpu.Process{}
	for _, f := range []func(device, *uint32, *processInfo) status{l.f.compute, l.f.graphics} {
		for _, p := range list(d, f) {
			if p.memory == notAvailable {
				p.memory = 0
			}
			if one := found[p.pid]; one == nil || one.Memory < p.memory {
				found[p.pid] = &gpu.Process{PID: p.pid, Name: processName(p.pid), Memory: p.memory}
			}
		}
	}
	for _, s := range l.takeSamples(d) {
		if p := found[s.pid]; p != nil {
			p.Busy = map[string]uint32{"sm": s.sm, "memory": s.memory, "encoder": s.encoder, "decoder": s.decoder}
		}
	}
	all := make([]gpu.Process, 0, len(found))
	for _, p := range found {
		all = append(all, *p)
	}
	slices.SortFunc(all, func(a, b gpu.Process) int { return cmp.Compare(a.PID, b.PID) })
	return all
}

// list calls a function that fills a list, whose length it asks for first.
func list(d device, f func(device, *uint32, *processInfo) status) []processInfo {
	if f == nil {
		return nil
	}
	var n uint32
	if s := f(d, &n, nil); s != insufficientSize || n == 0 {
		return nil
	}
	n = min(n*2, maxProcesses) // others may start meanwhile
	infos := make([]processInfo, n)
	if f(d, &n, &infos[0]) != success {
		return nil
	}
	return infos[:min(int(n), len(infos))]
}

// takeSamples returns how busy the GPU was with processes since the last time:
// each process's latest sample.
func (l *Library) takeSamples(d device) map[uint32]processSample {
	if l.f.samples == nil {
		return nil
	}
	var n uint32
	if s := l.f.samples(d, nil, &n, l.sampled[d]); s != insufficientSize || n == 0 {
		return nil
	}
	n = min(n, maxProcesses)
	samples := make([]processSample, n)
	if l.f.samples(d, &samples[0], &n, l.sampled[d]) != success {
		return nil
	}
	latest := map[uint32]processSample{}
	for _, s := range samples[:min(int(n), len(samples))] {
		if s.time >= latest[s.pid].time {
			latest[s.pid] = s
		}
		l.sampled[d] = max(l.sampled[d], s.time)
	}
	return latest
}

// processName is a process's name, if it is one of this machine's that we see.
func processName(pid uint32) string {
	data, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "comm"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
