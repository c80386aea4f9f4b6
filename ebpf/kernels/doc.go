// Kernels runs the compiled tests of the eBPF packages in other kernels than
// this machine's, under QEMU, and reports test by test.
//
//	kernels ─► for each vmlinuz-<version>-<architecture> in .cache/kernels:
//	           initramfs: busybox, the test binaries, nginx, losetup (its own architecture's)
//	           QEMU: /init runs each binary as root, on the serial console
//	           report: what passed, failed and was skipped, and why
//
// make test-kernels fetches the kernels (fetch.sh) and runs it. Processors are
// emulated: a machine that is virtual itself rarely has what KVM needs. Nothing
// outside .cache and a temporary directory is written.
package main
