// Package crash proves or disproves that acknowledged samples survive kill -9.
//
// Each round: writers send at full speed and note in a ledger which requests were
// acknowledged; at a random moment the server is killed; it starts again on the
// same directory; everything the ledger holds is read back and compared, bit by
// bit. A request without an answer may be there or not; some of those are sent
// again, as a real sender would, and must then be there once. After the last
// round the server is stopped in good order and everything is compared again.
//
// With Kafka as the buffer there is more to kill. One of several stores that
// share the topics: the others take over what it consumed, all while writers go
// on, and every acknowledged sample must be in the union of what they answer.
// What a store had in blocks but had not committed when it was killed is read by
// its successor again; such samples, which more than one store has, are counted
// apart. Or the broker: writers are told to come back later, and do.
//
// Spans are sent by four writers in the same way; some of a trace's come one
// request later than the others. Every trace is read back by its id and compared
// span by span, and all spans are counted, in which those that a store has twice
// would show.
//
// A killed process loses what it holds itself, not what it gave to the kernel:
// that data is synced before it is acknowledged is for tests on a file system
// that forgets to prove.
//
//	ledger: group 0: step 0 1 2 3 …   acknowledged | unknown | never sent
//	        group 1: …                a step is one time stamp of all series of a group
package crash
