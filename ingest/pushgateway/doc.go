// Package pushgateway takes the metrics of batch jobs the way the Prometheus
// Push gateway does, and keeps them alive between pushes.
//
//	PUT, POST ─► parse ─► check against the other groups ─► group on disk (unpublished)
//	                                                              │
//	200 ◄── group published ◄── new samples and stale markers through the door
//	                                                              ▲
//	Run: the last values of every group, each interval ───────────┘
//
// A group is what was pushed under one grouping key, the labels in the URL, of
// one tenant. A push is answered with success once its samples are durable in
// the buffer and its group is durable on disk, one file per group, checksummed
// (docs/format/pushgateway.md). A push that fails leaves the group as it was.
//
// Invariants:
//
//   - A series belongs to at most one group, so repeats never fight.
//   - All writes of a tenant have different timestamps, and a later change of a
//     group has a later one: whatever the order in which the store sees them, the
//     newest sample of a series is right.
//   - A group's state is immutable; a change makes a new one.
//
// Locks: a group's own (one of a few stripes), then Gateway.mu, which is never
// held while something is written.
package pushgateway
