// Package profile samples what every process does on its processors, as folded
// stacks: the eBPF feature profile.
//
//	perf event, 99 Hz a processor --> kernel: count of (process, stacks)
//	                                    | every few seconds: swap, read, empty
//	                                    v
//	                      symbol: addresses to functions, while the process lives
//	                                    |
//	                                    v
//	                      store: (interval, process, stack) --> count --> HTTP, pprof
//
// A sample stands for one period of processor time, 1/99 s. The event is the
// kernel's own clock and not the processor's counter of cycles: it is there on
// every machine, takes no counter from others, and each sample is the same time.
//
// The store is bounded in bytes: frames are kept once, stacks are paths in one
// tree, and an interval is a list of 12 bytes a stack. The oldest intervals go
// when it is full. Whatever is lost on the way is counted.
package profile
