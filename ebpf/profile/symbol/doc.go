// Package symbol names the addresses of stacks: those of the kernel by kallsyms,
// those of processes by what they map.
//
//	address --/proc/<pid>/maps--> file, offset --program headers--> its own address --table--> name
//
// A file's table is one sorted slice of 12 bytes a function; names stay in the
// file and are read when they are met, so a binary of hundreds of megabytes costs
// a few. Sources, best first: .symtab, that of a separate debug file (by build id
// or .gnu_debuglink), Go's pclntab, .dynsym. Code that is not of a file is looked
// up in /tmp/perf-<pid>.map, which JIT compilers write when they are told to.
//
// Tables are kept for all processes that map the same file, within a budget of
// bytes; those not used longest go first. No file stays open between two rounds
// (Release), for an open file would keep a container from being removed.
//
// Everything that is read here is written by others: files, maps and perf maps of
// any process are hostile until proven otherwise. Sizes are bounded before they
// are used, paths of a process are resolved within its own root, and nothing but
// regular files is opened.
package symbol
