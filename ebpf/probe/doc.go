// Package probe loads Vedette's programs into the kernel and turns what they
// count into metrics, without touching the processes that are watched.
//
//	kernel:  tracepoints ─► programs ─► maps (counts, bounded)
//	                            └─────► arrivals: a process seen for the first time
//	user:    arrivals ─► identity (name it while it lives)
//	         Collect  ─► read the maps, fold processes into services ─► metrics
//	         sweep    ─► move the counts of dead processes out of the maps
//
// Each feature has a package beside this one and is one small collection that is
// probed by loading it, on its own, down its own ladder of ways, and reported by
// vedette_ebpf_feature{name,state,reason}; one that does not load disables no
// other, and none stops the probe. Each is asked by one call at a time, with a
// bound: one that does not answer is left out until it does.
//
// Invariants: nothing is copied per event; counts never fall while a series is
// exported; what was not counted is itself counted; the probe's own process is
// not seen; when Run returns nothing is attached but what Run says could not be
// detached.
package probe
