// Package process is the feature process: programs that begin, processes that
// end, with code or signal and how long they lived, and those that the kernel
// kills for want of memory.
//
// The kernel tells of each fork, exec and exit through a ring buffer, with all it
// takes to name a process that is gone before anybody looks: executable, control
// groups, arguments and environment. Other features profit, for the resolver
// knows a process from its first moment. Beginning a program costs hundreds of
// microseconds, so that telling of each does not count, and is exact.
package process
