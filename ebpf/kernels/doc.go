// Kernels runs the compiled tests of the eBPF packages in other kernels than
// this machine's, under QEMU, and reports package by package.
//
//	kernels ─► for each vmlinuz-<version>-<architecture> in .cache/kernels:
//	           initramfs: busybox, the test binaries, nginx and others (its own architecture's), modules of sock_diag
//	           QEMU: /init runs each binary as root, on the serial console
//	           report: what passed, failed and was skipped, and why
//	           table: the way that each feature holds by, of each kernel
//
// make test-kernels fetches the kernels (fetch.sh) and runs it. It exits 1 when a test
// fails, a kernel does not come to the end, or a feature is loaded in another way than
// ways.go says. KVM is used where it runs a kernel: a machine that is virtual itself
// rarely has what that needs, and then processors are emulated. How long anything may
// take is not bounded, but how long a kernel may be silent is. Nothing outside .cache
// and a temporary directory is written.
package main
