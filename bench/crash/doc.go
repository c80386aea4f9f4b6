// Package crash proves or disproves that acknowledged samples survive kill -9.
//
// Each round: writers send at full speed and note in a ledger which requests were
// acknowledged; at a random moment the server is killed; it starts again on the
// same directory; everything the ledger holds is read back and compared, bit by
// bit. A request without an answer may be there or not; some of those are sent
// again, as a real sender would, and must then be there once. After the last
// round the server is stopped in good order and everything is compared again.
//
// A killed process loses what it holds itself, not what it gave to the kernel:
// that data is synced before it is acknowledged is for tests on a file system
// that forgets to prove.
//
//	ledger: group 0: step 0 1 2 3 …   acknowledged | unknown | never sent
//	        group 1: …                a step is one time stamp of all series of a group
package crash
