// Package bpf holds the programs that Vedette loads into the kernel, as C and as
// the objects and bindings that bpf2go made of it.
//
// Everything generated is committed, so that building Vedette needs no C
// compiler; `make generate-ebpf` makes it anew. The programs are compiled once
// per architecture and mended at load from the running kernel's BTF (CO-RE);
// kernel.h names the few kernel types they touch. One C file is one collection,
// loaded alone by package probe.
package bpf
