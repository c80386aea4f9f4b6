// Package runq is the feature runq: how long threads that could run wait for a
// processor, as a histogram of each service.
//
// One program runs at each switch of threads. It reads the kernel's own notes of
// when a thread was queued, so that nothing runs when threads are woken.
package runq
