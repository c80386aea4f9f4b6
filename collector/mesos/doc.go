// Package mesos reads what a Mesos cluster and its tasks use over HTTP, under the
// names that the Mesos exporter gave them.
//
//	master  /metrics/snapshot   ──► mesos_master_*, mesos_registrar_*, mesos_overlay_*
//	        /slaves             ──► addresses of agents, if Config.DiscoverAgents
//	agent   /metrics/snapshot   ──► mesos_slave_*
//	        /monitor/statistics ──► mesos_agent_*{id,framework_id,source}
//
// Collect asks all of them at once and waits for at most Config.Timeout.
//
// Invariants:
//
//   - Every series carries the label target, the address that was asked.
//   - A value that a master or agent does not report makes no series.
//   - A target that fails takes its own series away, never another's; what it
//     answers never makes a gathering fail.
package mesos
