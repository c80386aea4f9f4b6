// Package etcd discovers scrape targets that services register in etcd, each
// under a lease that it keeps alive.
//
// A service writes its address to a key of its own below a prefix, as
// /service/<name>/<uuid> -> 10.0.30.101:41337, and the key goes away with its
// lease when the service does. The package registers itself with Prometheus's
// discovery when it is imported, as etcd_sd_configs of a scrape configuration.
//
//	etcd ─list at revision N─► state ─► target groups, one per service ─► discovery manager
//	     ─watch from N+1────►
//
// Invariants:
//
//   - Targets are those of one revision of etcd, whichever it is: a listing is
//     read at the revision of its first page, and the watch begins right after.
//   - A listing is taken anew when the watch ends for whatever reason, compaction
//     among them, and whenever a connection was lost: a server that comes back
//     may be one that was restored from an older backup, where a watch would
//     wait in silence for a revision that is long past.
//   - While etcd is out of reach the last known targets stay. A group becomes
//     empty only because etcd said that its keys are gone.
//   - A value that makes no target hurts that key alone.
package etcd
