// Package kafka is buffer.Buffer on Apache Kafka.
//
//	Append ─► queue of the partition ─► one record batch ─► produce, acks=all ─► tail
//	                                                                              │
//	Consume ─► member of the group ─► Claim.Next ◄── attachments of our own ──────┘
//	                                       ▲
//	                                       └──────── fetch, for all that is not in the tail
//
// Appends that arrive while a produce request of their partition is under way
// share the next one. A record batch is atomic, so an append is. Kafka gives
// every message its offset; the messages that this process has produced and
// seen acknowledged reach the consumer of the same process with their
// attachments, without a way back over the network.
//
// What holds: an append that returned nil is on all in-sync replicas. One that
// failed may still be in the log, and a request that was repeated may be there
// twice, as may what a client sends again: the store keeps one sample of equal
// series and time. Offsets of a partition rise; Commit never moves back; a
// member that has lost its partition to another commits no more.
//
// The group protocol is cooperative: partitions that stay where they are go on
// through a rebalance, and through a restart of the broker. A member with an
// instance id takes the place of the one that had it before.
//
// While Kafka is known to be away, one append per partition waits for it and
// the others are refused at once. A record batch that nobody can read reaches
// the consumer as a message in no format, and the partition goes on.
package kafka
