// Package runq is the feature runq: how long threads that could run wait for a
// processor, as a histogram of each service.
//
// One program runs at each switch of threads. The kernel counts the waits of each
// thread and adds them up; the program tells what was added since the thread last
// left a processor, so that nothing runs when threads are woken, and a switch that
// no program was run at takes nothing from the counts. Threads older than the
// program are walked once, before it is attached: what they waited until then is
// not told.
package runq
