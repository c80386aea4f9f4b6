package container

import "github.com/prometheus/client_golang/prometheus"

// family is a metric of a cgroup.
type family int

const (
	lastSeen family = iota
	startTime
	specPeriod
	specQuota
	specShares
	specMemory
	specSwap
	specReservation
	cpuUsage
	cpuUser
	cpuSystem
	cfsPeriods
	cfsThrottled
	cfsThrottledSeconds
	memUsage
	memMax
	memWorkingSet
	memRSS
	memCache
	memSwap
	memMapped
	memKernel
	memActive
	memInactive
	memFailcnt
	memFailures
	oomEvents
	fsReads
	fsReadBytes
	fsWrites
	fsWriteBytes
	blkioUsage
	rxBytes
	rxPackets
	rxErrors
	rxDropped
	txBytes
	txPackets
	txErrors
	txDropped
	processes
	threads
	threadsMax
	descriptors
	cpuWaiting
	cpuStalled
	memoryWaiting
	memoryStalled
	ioWaiting
	ioStalled
	numFamilies
)

// familyInfo is a name, help text and type as cAdvisor has them, with the labels
// beside those of the container.
type familyInfo struct {
	name, help string
	kind       prometheus.ValueType
	extra      []string
}

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

// families lists all metrics of cgroups.
func families() [numFamilies]familyInfo {
	device, iface := []string{"device"}, []string{"interface"}
	return [numFamilies]familyInfo{
		lastSeen:            {"container_last_seen", "Last time a container was seen by the exporter", gauge, nil},
		startTime:           {"container_start_time_seconds", "Start time of the container since unix epoch in seconds.", gauge, nil},
		specPeriod:          {"container_spec_cpu_period", "CPU period of the container.", gauge, nil},
		specQuota:           {"container_spec_cpu_quota", "CPU quota of the container.", gauge, nil},
		specShares:          {"container_spec_cpu_shares", "CPU share of the container.", gauge, nil},
		specMemory:          {"container_spec_memory_limit_bytes", "Memory limit for the container.", gauge, nil},
		specSwap:            {"container_spec_memory_swap_limit_bytes", "Memory swap limit for the container.", gauge, nil},
		specReservation:     {"container_spec_memory_reservation_limit_bytes", "Memory reservation limit for the container.", gauge, nil},
		cpuUsage:            {"container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", counter, []string{"cpu"}},
		cpuUser:             {"container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", counter, nil},
		cpuSystem:           {"container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.", counter, nil},
		cfsPeriods:          {"container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", counter, nil},
		cfsThrottled:        {"container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", counter, nil},
		cfsThrottledSeconds: {"container_cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.", counter, nil},
		memUsage:            {"container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed", gauge, nil},
		memMax:              {"container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes", gauge, nil},
		memWorkingSet:       {"container_memory_working_set_bytes", "Current working set in bytes.", gauge, nil},
		memRSS:              {"container_memory_rss", "Size of RSS in bytes.", gauge, nil},
		memCache:            {"container_memory_cache", "Number of bytes of page cache memory.", gauge, nil},
		memSwap:             {"container_memory_swap", "Container swap usage in bytes.", gauge, nil},
		memMapped:           {"container_memory_mapped_file", "Size of memory mapped files in bytes.", gauge, nil},
		memKernel:           {"container_memory_kernel_usage", "Size of kernel memory allocated in bytes.", gauge, nil},
		memActive:           {"container_memory_total_active_file_bytes", "Current total active file in bytes.", gauge, nil},
		memInactive:         {"container_memory_total_inactive_file_bytes", "Current total inactive file in bytes.", gauge, nil},
		memFailcnt:          {"container_memory_failcnt", "Number of memory usage hits limits", counter, nil},
		memFailures:         {"container_memory_failures_total", "Cumulative count of memory allocation failures.", counter, []string{"failure_type", "scope"}},
		oomEvents:           {"container_oom_events_total", "Count of out of memory events observed for the container", counter, nil},
		fsReads:             {"container_fs_reads_total", "Cumulative count of reads completed", counter, device},
		fsReadBytes:         {"container_fs_reads_bytes_total", "Cumulative count of bytes read", counter, device},
		fsWrites:            {"container_fs_writes_total", "Cumulative count of writes completed", counter, device},
		fsWriteBytes:        {"container_fs_writes_bytes_total", "Cumulative count of bytes written", counter, device},
		blkioUsage:          {"container_blkio_device_usage_total", "Blkio Device bytes usage", counter, []string{"device", "major", "minor", "operation"}},
		rxBytes:             {"container_network_receive_bytes_total", "Cumulative count of bytes received", counter, iface},
		rxPackets:           {"container_network_receive_packets_total", "Cumulative count of packets received", counter, iface},
		rxErrors:            {"container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", counter, iface},
		rxDropped:           {"container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving", counter, iface},
		txBytes:             {"container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", counter, iface},
		txPackets:           {"container_network_transmit_packets_total", "Cumulative count of packets transmitted", counter, iface},
		txErrors:            {"container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", counter, iface},
		txDropped:           {"container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting", counter, iface},
		processes:           {"container_processes", "Number of processes running inside the container.", gauge, nil},
		threads:             {"container_threads", "Number of threads running inside the container", gauge, nil},
		threadsMax:          {"container_threads_max", "Maximum number of threads allowed inside the container, infinity if value is zero", gauge, nil},
		descriptors:         {"container_file_descriptors", "Number of open file descriptors for the container.", gauge, nil},
		cpuWaiting:          {"container_pressure_cpu_waiting_seconds_total", "Total time duration tasks in the container have waited due to CPU congestion.", counter, nil},
		cpuStalled:          {"container_pressure_cpu_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to CPU congestion.", counter, nil},
		memoryWaiting:       {"container_pressure_memory_waiting_seconds_total", "Total time duration tasks in the container have waited due to memory congestion.", counter, nil},
		memoryStalled:       {"container_pressure_memory_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to memory congestion.", counter, nil},
		ioWaiting:           {"container_pressure_io_waiting_seconds_total", "Total time duration tasks in the container have waited due to IO congestion.", counter, nil},
		ioStalled:           {"container_pressure_io_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to IO congestion.", counter, nil},
	}
}

// machineInfo are the metrics of the machine, in the order of machineValues.
func machineInfo() []familyInfo {
	return []familyInfo{
		{"machine_cpu_cores", "Number of logical CPU cores.", gauge, nil},
		{"machine_cpu_physical_cores", "Number of physical CPU cores.", gauge, nil},
		{"machine_cpu_sockets", "Number of CPU sockets.", gauge, nil},
		{"machine_memory_bytes", "Amount of memory installed on the machine.", gauge, nil},
		{"machine_swap_bytes", "Amount of swap memory available on the machine.", gauge, nil},
	}
}
