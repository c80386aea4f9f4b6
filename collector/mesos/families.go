package mesos

import (
	"regexp"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

// family is a metric that is made of a snapshot: of the keys that its series
// name, or of those that match its pattern, whose groups are the labels.
type family struct {
	name, help string
	kind       prometheus.ValueType
	labels     []string
	series     []series
	pattern    *regexp.Regexp

	desc *prometheus.Desc
}

// series is a value of a snapshot, less another one if minus is set.
type series struct {
	key, minus string
	labels     []string
}

// one is a family of one series.
func one(kind prometheus.ValueType, name, help, key string) *family {
	return &family{name: name, help: help, kind: kind, series: []series{{key: key}}}
}

// byLabel is a family with one label; pairs are its values and the keys below
// prefix.
func byLabel(kind prometheus.ValueType, name, help, label, prefix string, pairs ...string) *family {
	f := &family{name: name, help: help, kind: kind, labels: []string{label}}
	for i := 0; i < len(pairs); i += 2 {
		f.series = append(f.series, series{key: prefix + pairs[i+1], labels: []string{pairs[i]}})
	}
	return f
}

// matching is a family of all keys that match.
func matching(kind prometheus.ValueType, name, help, pattern string, labels ...string) *family {
	return &family{name: name, help: help, kind: kind, labels: labels, pattern: regexp.MustCompile(pattern)}
}

// resource is how much of something there is, is used and is free.
func resource(of, name, help string) *family {
	f := byLabel(gauge, of+"_"+name, help, "type", of+"/"+name, "percent", "_percent", "total", "_total", "used", "_used")
	f.series = append(f.series, series{key: of + "/" + name + "_total", minus: of + "/" + name + "_used", labels: []string{"free"}})
	return f
}

// quantiles is a timer of Mesos'.
func quantiles(name, help, key string) *family {
	return byLabel(gauge, name, help, "type", key, "mean", "", "min", "/min", "max", "/max",
		"p50", "/p50", "p90", "/p90", "p95", "/p95", "p99", "/p99", "p999", "/p999", "p9999", "/p9999")
}

// named completes families: names begin with mesos_, and all have a target.
func named(list []*family) []*family {
	for _, f := range list {
		f.desc = prometheus.NewDesc("mesos_"+f.name, f.help, append([]string{"target"}, f.labels...), nil)
	}
	return list
}

// masterFamilies are the metrics of a master's snapshot.
func masterFamilies() []*family {
	outcomes := &family{
		name: "master_messages_outcomes_total", help: "Total number of messages by outcome of operation and direction.",
		kind: counter, labels: []string{"source", "destination", "type", "outcome"},
	}
	for _, v := range [][4]string{
		{"framework", "executor", "", "framework_to_executor_messages"},
		{"executor", "framework", "", "executor_to_framework_messages"},
		{"framework", "slave", "status_update", "status_updates"},
		{"slave", "framework", "status_update", "status_update_acknowledgements"},
	} {
		for _, outcome := range []string{"valid", "invalid"} {
			outcomes.series = append(outcomes.series, series{key: "master/" + outcome + "_" + v[3], labels: []string{v[0], v[1], v[2], outcome}})
		}
	}
	removals := byLabel(counter, "master_slave_removal_events_total", "Total number of removal events on this master since it booted.", "event", "master/slave_",
		"scheduled", "shutdowns_scheduled", "canceled", "shutdowns_canceled", "completed", "shutdowns_completed")
	removals.series = append(removals.series, series{key: "master/slave_removals", minus: "master/slave_shutdowns_completed", labels: []string{"died"}})

	messages := byLabel(counter, "master_messages", "Number of messages by the master by state", "type", "master/",
		"authenticate_messages", "messages_authenticate", "dropped_messages", "dropped_messages")
	for m := range strings.FieldsSeq(`deactivate_framework decline_offers executor_to_framework exited_executor framework_to_executor
		kill_task launch_tasks reconcile_tasks register_framework register_slave reregister_framework reregister_slave resource_request
		revive_offers status_update status_update_acknowledgement suppress_offers unregister_framework unregister_slave update_slave`) {
		messages.series = append(messages.series, series{key: "master/messages_" + m, labels: []string{m}})
	}
	list := []*family{
		one(gauge, "master_elected", "1 if master is elected leader, 0 if not", "master/elected"),
		one(gauge, "master_uptime_seconds", "Number of seconds the master process is running.", "master/uptime_secs"),
		byLabel(counter, "master_slave_registration_events_total", "Total number of registration events on this master since it booted.", "event",
			"master/slave_", "register", "registrations", "reregister", "reregistrations"),
		byLabel(counter, "master_recovery_slave_removal_events_total", "Total number of recovery removal events on this master since it booted.", "event",
			"master/", "removal", "recovery_slave_removals"),
		removals,
		matching(counter, "master_slave_removal_events_reasons", "Total number of slave removal events by reason on this master since it booted.",
			`^master/slave_removals/reason_(.+)$`, "reason"),
		byLabel(counter, "master_slave_unreachable_events_total", "Total number of slave unreachable events on this master since it booted.", "event",
			"master/slave_unreachable_", "canceled", "canceled", "completed", "completed", "scheduled", "scheduled"),
		byLabel(gauge, "master_slaves_state", "Current number of slaves known to the master per connection and registration state.", "state",
			"master/slaves_", "connected_active", "active", "connected_inactive", "inactive", "disconnected_inactive", "disconnected", "unreachable", "unreachable"),
		byLabel(gauge, "master_frameworks_state", "Current number of frames known to the master per connection and registration state.", "state",
			"master/frameworks_", "connected_active", "active", "connected_inactive", "inactive", "disconnected_inactive", "disconnected"),
		one(gauge, "master_offers_pending", "Current number of offers made by the master which aren't yet accepted or declined by frameworks.", "master/outstanding_offers"),
		byLabel(counter, "master_task_states_exit_total", "Total number of tasks processed by exit state.", "state", "master/tasks_",
			"dropped", "dropped", "errored", "error", "failed", "failed", "finished", "finished",
			"gone_by_operator", "gone_by_operator", "gone", "gone", "killed", "killed", "lost", "lost"),
		byLabel(gauge, "master_task_states_current", "Current number of tasks by state.", "state", "master/tasks_",
			"killing", "killing", "running", "running", "staging", "staging", "starting", "starting", "unreachable", "unreachable"),
		matching(counter, "master_task_state_counts_by_source_reason", "Number of task states by source and reason",
			`^master/task_(.+?)/source_(.+?)/reason_(.+)$`, "state", "source", "reason"),
		messages,
		outcomes,
		byLabel(gauge, "master_event_queue_length", "Current number of elements in event queue by type", "type", "master/event_queue_",
			"message", "messages", "http_request", "http_requests", "dispatches", "dispatches"),
		matching(counter, "master_frameworks_messages", "Messages passed around with the frameworks",
			`^(?:master/)?frameworks/(.+?)/messages_(.+)$`, "framework", "type"),
	}
	for name, words := range map[string]string{
		"cpus": "CPU", "cpus_revocable": "revocable CPU", "gpus": "GPU", "gpus_revocable": "revocable GPU",
		"mem": "memory", "mem_revocable": "revocable memory", "disk": "disk", "disk_revocable": "disk",
	} {
		list = append(list, resource("master", name, "Current "+words+" resources in cluster."))
	}
	return named(append(list, allocatorFamilies()...))
}

// allocatorFamilies are those of a master's allocator, registrar and logs.
func allocatorFamilies() []*family {
	list := []*family{
		one(gauge, "master_allocator_event_queue_dispatches", "Number of dispatch events in the allocator event queue.", "allocator/event_queue_dispatches"),
		one(gauge, "master_event_queue_dispatches", "Number of dispatch events in the allocator mesos event queue.", "allocator/mesos/event_queue_dispatches"),
		one(gauge, "master_allocation_run_ms_count", "Number of allocation algorithm time measurements in the window", "allocator/mesos/allocation_run_ms/count"),
		quantiles("master_allocation_run_ms", "Time spent in allocation algorithm in ms.", "allocator/mesos/allocation_run_ms"),
		byLabel(counter, "master_allocation_runs", "Number of times the allocation alorithm has run", "event", "allocator/mesos/", "allocation", "allocation_runs"),
		byLabel(counter, "master_allocation_run_latency_ms_count", "Number of allocation batch latency measurements", "event",
			"allocator/mesos/", "allocation", "allocation_run_latency_ms/count"),
		quantiles("master_allocation_run_latency_ms", "Allocation batch latency in ms.", "allocator/mesos/allocation_run_latency_ms"),
		matching(gauge, "master_allocator_offer_filters_active", "Number of active offer filters for all frameworks within the role",
			`^allocator/mesos/offer_filters/roles/(.+?)/active$`, "role"),
		matching(gauge, "master_allocator_role_quota_offered_or_allocated", "Amount of resources considered offered or allocated towards a role's quota guarantee.",
			`^allocator/mesos/quota/roles/(.+?)/resources/(.+?)/offered_or_allocated$`, "role", "resource"),
		matching(gauge, "master_allocator_role_shares_dominant", "Dominance factor for a role", `^allocator/mesos/roles/(.+?)/shares/dominant$`, "role"),
		matching(gauge, "master_allocator_role_quota_guarantee", "Amount of resources guaranteed for a role via quota",
			`^allocator/mesos/quota/roles/(.+?)/resources/(.+?)/guarantee$`, "role", "resource"),
		one(gauge, "registrar_registry_size_bytes", "Size of the registry in bytes", "registrar/registry_size_bytes"),
		one(gauge, "registrar_queued_operations", "Number of operations in the registry queue", "registrar/queued_operations"),
		one(gauge, "registrar_state_fetch_ms", "Duration of state JSON fetch in ms", "registrar/state_fetch_ms"),
		quantiles("registrar_state_store_ms", "Duration of state json store in ms.", "registrar/state_store_ms"),
		one(gauge, "registrar_log_recovered", "Recovered status of the registrar log", "registrar/log/recovered"),
		one(gauge, "registrar_log_ensemble_size", "Ensemble size of the registrar log", "registrar/log/ensemble_size"),
		one(gauge, "overlay_log_recovered", "Recovered status of the overlay log", "overlay/log/recovered"),
		one(gauge, "overlay_log_ensemble_size", "Ensemble size of the overlay log", "overlay/log/ensemble_size"),
	}
	for name, help := range map[string]string{"cpus": "Number of CPUs offered or allocated", "disk": "Allocated or offered disk space in MB", "mem": "Allocated or offered memory in MB"} {
		list = append(list, byLabel(gauge, "master_allocator_resources_"+name, help, "type", "allocator/mesos/resources/"+name+"/",
			"total", "total", "offered_or_allocated", "offered_or_allocated"))
	}
	return list
}

// agentFamilies are the metrics of an agent's snapshot.
func agentFamilies() []*family {
	messages := &family{name: "slave_messages_outcomes_total", help: "Total number of messages by outcome of operation", kind: counter, labels: []string{"type", "outcome"}}
	for _, v := range [][2]string{{"framework", "framework_messages"}, {"status", "status_updates"}} {
		for _, outcome := range []string{"valid", "invalid"} {
			messages.series = append(messages.series, series{key: "slave/" + outcome + "_" + v[1], labels: []string{v[0], outcome}})
		}
	}
	const fetcher, projects = "containerizer/fetcher/", "containerizer/mesos/disk/project_ids_"
	cache := byLabel(gauge, "slave_containerizer_fetcher_cache_size", "Containerizer fetcher cache sizes in bytes", "type", fetcher,
		"total", "cache_size_total_bytes", "used", "cache_size_used_bytes")
	cache.series = append(cache.series, series{key: fetcher + "cache_size_total_bytes", minus: fetcher + "cache_size_used_bytes", labels: []string{"free"}})
	xfs := byLabel(gauge, "slave_containerizer_xfs_project_ids", "Number of project IDs available for the XFS disk isolator", "type", projects, "total", "total", "free", "free")
	xfs.series = append(xfs.series, series{key: projects + "total", minus: projects + "free", labels: []string{"used"}})
	list := []*family{
		one(gauge, "slave_registered", "1 if slave is registered with master, 0 if not.", "slave/registered"),
		one(gauge, "slave_uptime_seconds", "Number of seconds the slave process is running.", "slave/uptime_secs"),
		one(counter, "slave_recovery_errors", "Total number of recovery errors", "slave/recovery_errors"),
		one(gauge, "slave_recovery_time_secs", "Agent recovery time in seconds", "slave/recovery_time_secs"),
		one(gauge, "slave_executor_directory_max_allowed_age_secs", "Max allowed age of the executor directory", "slave/executor_directory_max_allowed_age_secs"),
		byLabel(gauge, "slave_executor_state", "Current number of executors by state.", "state", "slave/executors_",
			"registering", "registering", "running", "running", "terminating", "terminating"),
		one(gauge, "slave_frameworks_active", "Current number of active frameworks", "slave/frameworks_active"),
		one(counter, "slave_executors_terminated", "Total number of executor terminations.", "slave/executors_terminated"),
		one(counter, "slave_executors_preempted", "Total number of executor preemptions.", "slave/executors_preempted"),
		byLabel(counter, "slave_task_states_exit_total", "Total number of tasks processed by exit state.", "state", "slave/tasks_",
			"errored", "error", "failed", "failed", "finished", "finished", "gone", "gone", "killed", "killed", "lost", "lost"),
		byLabel(gauge, "slave_task_states_current", "Current number of tasks by state.", "state", "slave/tasks_",
			"killing", "killing", "running", "running", "staging", "staging", "starting", "starting"),
		matching(counter, "slave_task_state_counts_by_source_reason", "Number of task states by source and reason",
			`^slave/task_(.+?)/source_(.+?)/reason_(.+)$`, "state", "source", "reason"),
		messages,
		one(gauge, "slave_gc_path_removals_pending", "Number of sandbox paths that are currently pending agent garbage collection", "gc/path_removals_pending"),
		byLabel(counter, "slave_gc_path_removals_outcome", "Number of sandbox paths the agent removed", "outcome", "gc/path_removals_", "success", "succeeded", "failed", "failed"),
		one(counter, "slave_container_launch_errors", "Total number of container launch errors", "slave/container_launch_errors"),
		one(counter, "slave_containerizer_filesystem_containers_new_rootfs", "Number of containers changing root filesystem",
			"containerizer/mesos/filesystem/containers_new_rootfs"),
		one(counter, "slave_containerizer_provisioner_bind_remove_rootfs_errors", "Number of errors from the containerizer attempting to bind the rootfs",
			"containerizer/mesos/provisioner/bind/remove_rootfs_errors"),
		one(counter, "slave_containerizer_provisioner_remove_container_errors", "Number of errors from the containerizer attempting to remove a container",
			"containerizer/mesos/provisioner/remove_container_errors"),
		one(counter, "slave_containerizer_container_destroy_errors", "Number of containers destroyed due to launch errors", "containerizer/mesos/container_destroy_errors"),
		byLabel(counter, "slave_containerizer_fetcher_task_fetches", "Total number of containerizer fetcher tasks by outcome", "outcome",
			fetcher+"task_fetches_", "success", "succeeded", "failed", "failed"),
		cache,
		xfs,
	}
	for name, words := range map[string]string{
		"cpus": "CPU", "cpus_revocable": "revocable CPU", "gpus": "GPU", "gpus_revocable": "revocable GPUS",
		"mem": "memory", "mem_revocable": "revocable memory", "disk": "disk", "disk_revocable": "disk",
	} {
		list = append(list, resource("slave", name, "Current "+words+" resources in cluster."))
	}
	return named(list)
}

// statistic is a number that an agent reports about an executor.
type statistic struct {
	key, name, help string
	kind            prometheus.ValueType

	desc *prometheus.Desc
}

// statistics are the metrics of executors.
func statistics() []*statistic {
	list := []*statistic{
		{key: "processes", name: "processes", help: "Current number of processes", kind: gauge},
		{key: "threads", name: "threads", help: "Current number of threads", kind: gauge},
		{key: "cpus_limit", name: "cpus_limit", help: "Current limit of CPUs for task", kind: gauge},
		{key: "cpus_system_time_secs", name: "cpu_system_seconds_total", help: "Total system CPU seconds", kind: counter},
		{key: "cpus_user_time_secs", name: "cpu_user_seconds_total", help: "Total user CPU seconds", kind: counter},
		{key: "cpus_throttled_time_secs", name: "cpu_throttled_seconds_total", help: "Total time CPU was throttled due to CFS bandwidth control", kind: counter},
		{key: "cpus_nr_periods", name: "cpu_nr_periods_total", help: "Total number of elapsed CFS enforcement intervals", kind: counter},
		{key: "cpus_nr_throttled", name: "cpu_nr_throttled_total", help: "Total number of throttled CFS enforcement intervals.", kind: counter},
		{key: "mem_anon_bytes", name: "mem_anon_bytes", help: "Current anonymous memory in bytes", kind: gauge},
		{key: "mem_limit_bytes", name: "mem_limit_bytes", help: "Current memory limit in bytes", kind: gauge},
		{key: "mem_rss_bytes", name: "mem_rss_bytes", help: "Current rss memory usage", kind: gauge},
		{key: "mem_total_bytes", name: "mem_total_bytes", help: "Current total memory usage", kind: gauge},
		{key: "mem_cache_bytes", name: "mem_cache_bytes", help: "Current page cache memory usage", kind: gauge},
		{key: "mem_swap_bytes", name: "mem_swap_bytes", help: "Current swap usage", kind: gauge},
		{key: "mem_file_bytes", name: "mem_file_bytes", help: "Current file bytes count", kind: gauge},
		{key: "mem_mapped_file_bytes", name: "mem_mapped_file_bytes", help: "Current memory mapped file bytes count", kind: gauge},
		{key: "mem_unevictable_bytes", name: "mem_unevictable_bytes", help: "Current memory unevictable bytes count", kind: gauge},
		{key: "mem_low_pressure_counter", name: "mem_low_pressure_counter", help: "Low pressure counter value", kind: counter},
		{key: "mem_medium_pressure_counter", name: "mem_medium_pressure_counter", help: "Medium pressure counter value", kind: counter},
		{key: "mem_critical_pressure_counter", name: "critical_low_pressure_counter", help: "Critical pressure counter value", kind: counter}, // the exporter's name
		{key: "disk_limit_bytes", name: "disk_limit_bytes", help: "Current disk limit in bytes", kind: gauge},
		{key: "disk_used_bytes", name: "disk_used_bytes", help: "Current disk usage", kind: gauge},
	}
	for _, way := range [][3]string{{"rx", "receive", "receiving"}, {"tx", "transmit", "transmitting"}} {
		done := map[string]string{"rx": "received", "tx": "transmitted"}[way[0]]
		for _, what := range [][2]string{
			{"bytes", "Total bytes " + done}, {"packets", "Total packets " + done},
			{"dropped", "Total packets dropped while " + way[2]}, {"errors", "Total errors while " + way[2]},
		} {
			list = append(list, &statistic{key: "net_" + way[0] + "_" + what[0], name: "network_" + way[1] + "_" + what[0] + "_total", help: what[1], kind: counter})
		}
	}
	for _, s := range list {
		s.desc = prometheus.NewDesc("mesos_agent_"+s.name, s.help, []string{"target", "id", "framework_id", "source"}, nil)
	}
	return list
}
