// Package forward ships what an agent has collected to where it is kept: another
// Vedette, anything that takes OTLP and remote write, or Kafka.
//
//	doors, sources, Add ──► Queue (embedded log on disk, bounded) ──► Forwarder ──► Destination
//	                          │ full or too old                         │ one goroutine and one request
//	                          ▼                                         ▼ per topic and partition
//	                        oldest segment is dropped and counted     HTTP or Kafka
//
// A Queue is a buffer.Buffer, so that everything that writes into a buffer writes
// into it. The payloads are those that came in; on the way out messages of one
// tenant and format that wait behind each other share a request, put one behind the
// other as protobuf allows, but are not decoded into samples or spans.
//
// What holds. A message leaves the queue when the destination has acknowledged it,
// refused it for good, or when the queue is full; the latter two are counted and
// logged. Messages of a partition arrive in order and at least once. They arrive
// exactly once where the destination is a Vedette with an embedded buffer: every
// request says from which offsets of which log it comes, and the server appends that
// together with the data (see door.Forwarded), so that neither a lost answer nor the
// death of either process makes it store a request twice.
//
// Lock order: Queue.mu, then those of the log. Run starts goroutines and waits for
// them; nothing else does.
package forward
