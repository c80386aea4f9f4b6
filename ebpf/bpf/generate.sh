#!/bin/sh
# Compiles the C files to the committed objects and bindings; needs clang 14 and
# libbpf's headers (apt-get install clang-14 llvm-14 libbpf-dev).
set -e
cd "$(dirname "$0")"
GO=${GO:-go}
BPF2GO=github.com/cilium/ebpf/cmd/bpf2go@v0.22.0
CLANG=${CLANG:-clang-14}
command -v "$CLANG" >/dev/null || { echo "$CLANG is missing: apt-get install clang-14 llvm-14 libbpf-dev"; exit 1; }
INCLUDE=/usr/include/$(uname -m)-linux-gnu
gen() {
	name=$1; shift
	stem=$(echo "$name" | sed 's/\([a-z]\)\([A-Z]\)/\1_\2/g' | tr A-Z a-z)
	GOPACKAGE=bpf $GO run $BPF2GO -cc "$CLANG" -strip llvm-strip-14 -target amd64,arm64 -go-package bpf -output-stem "$stem" "$@" \
		"$name" "$stem.bpf.c" -- -O2 -g -Wall -Werror -I. -I"$INCLUDE"
}
gen Http -type http_key -type http_value -type http_span -type process -type stat -type method -type role
gen HttpFexit -no-global-types
gen HttpKprobe -no-global-types
gen HttpFexitBounded -no-global-types
gen HttpKprobeBounded -no-global-types
gen HttpSyscall -no-global-types
gen HttpSkb -no-global-types -type duration_bounds
gen Tcp -type tcp_place -type process_key -type tcp_key -type tcp_value -type tcp_failure -type tcp_open -type tcp_stat -type tcp_role
gen Profile -type profile_key -type profile_stack -type profile_stat -type process
gen Stream -type stream_event -type stream_stat -type stream_kind -type stream_flag -type process
gen StreamFexit -no-global-types
gen StreamKprobe -no-global-types
gen Dns -type process -type dns_lookup -type dns_key -type dns_stat -type dns_side
gen DnsFexit -no-global-types
gen DnsKprobe -no-global-types
gen Tls -type tls_event -type tls_kind -type tls_stat -type tls_process -type tls_call_key -type tls_call
gen TlsFexit -no-global-types
gen Process -type process_event -type process_key -type process_kind -type process_stat
gen Block -type block_key -type block_value -type block_stat -type block_operation
gen Runq -type runq_value -type process_key -type runq_stat
