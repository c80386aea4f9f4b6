/* SPDX-License-Identifier: Apache-2.0 */
/* The few kernel types these programs touch. Only the named fields matter:
 * their offsets are mended at load from the running kernel's BTF. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_MPTCP 262
#define PF_IO_WORKER 0x10
#define PF_KTHREAD 0x200000
#define MSG_PEEK 0x2
#define MSG_ERRQUEUE 0x2000
#define SOCK_DONE 1 /* bit of skc_flags: the peer has sent its FIN */

enum tcp_states {
	ESTABLISHED = 1,
	SYN_SENT = 2,
	SYN_RECV = 3,
	FIN_WAIT1 = 4,
	CLOSE = 7,
	CLOSE_WAIT = 8,
	LAST_ACK = 9,
	LISTEN = 10,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct in6_addr {
	union {
		__be32 u6_addr32[4];
	} in6_u;
};

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned long skc_flags;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
	int sk_err;
};

struct socket {
	struct sock *sk;
};

struct file;
struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

struct tcp_sock {
	__u32 rcv_nxt;
	__u32 copied_seq;
	__u32 write_seq;
	__u32 snd_una;
	__u32 srtt_us;
	__u32 total_retrans;
	__u64 bytes_received;
	__u64 bytes_sent;
	__u64 bytes_retrans;
};

struct task_struct {
	unsigned int flags;
	int tgid;
	struct task_struct *group_leader;
	__u64 start_boottime;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
};
#define SYSCALL_NR(r) ((long)(r)->orig_ax)
#define SYSCALL_ARG2(r) ((r)->si)
#define SYSCALL_ARG3(r) ((r)->dx)
enum {
	NR_read = 0, NR_write = 1, NR_readv = 19, NR_writev = 20,
	NR_sendfile = 40, NR_sendto = 44, NR_recvfrom = 45, NR_sendmsg = 46,
	NR_recvmsg = 47, NR_splice = 275, NR_sendmmsg = 307,
	NR_preadv2 = 327, NR_pwritev2 = 328, NR_io_uring_enter = 426,
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	__u64 regs[31];
};
struct pt_regs {
	__u64 regs[31];
	__s32 syscallno;
};
#define SYSCALL_NR(r) ((long)(r)->syscallno)
#define SYSCALL_ARG2(r) ((r)->regs[1])
#define SYSCALL_ARG3(r) ((r)->regs[2])
enum {
	NR_read = 63, NR_write = 64, NR_readv = 65, NR_writev = 66,
	NR_sendfile = 71, NR_sendto = 206, NR_recvfrom = 207, NR_sendmsg = 211,
	NR_recvmsg = 212, NR_splice = 76, NR_sendmmsg = 269,
	NR_preadv2 = 286, NR_pwritev2 = 287, NR_io_uring_enter = 426,
};
#else
#error "no system call registers for this architecture"
#endif

#pragma clang attribute pop

/* A feature's counters, by number; most are of what it did not see or had no room
 * for. Programs interrupt each other, so they are added to atomically. */
#define COUNTERS(numbers)                                         \
	struct {                                                  \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);          \
		__uint(max_entries, numbers);                     \
		__type(key, __u32);                               \
		__type(value, __u64);                             \
	} stats SEC(".maps");                                     \
	static __always_inline void count_more(__u32 stat, __u64 by) \
	{                                                         \
		__u64 *n = bpf_map_lookup_elem(&stats, &stat);    \
                                                                  \
		if (n)                                            \
			__sync_fetch_and_add(n, by);              \
	}                                                         \
	static __always_inline void count(__u32 stat)             \
	{                                                         \
		count_more(stat, 1);                              \
	}

/* What a program needs of a process. */
struct process {
	__u64 start_ns; /* since boot, with the process id unique */
	__u32 tgid;
	__u32 pad;
	__u8 comm[16];
};

/* A process seen for the first time, so that user space can name it while it
 * lives. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} arrivals SEC(".maps");

struct process_key {
	__u64 start_ns;
	__u32 tgid;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct process_key);
	__type(value, __u8);
} known SEC(".maps");

#ifndef NO_VARIABLES /* kernels before 5.2 have none */
/* Set by user space: its own process is not looked at. */
const volatile __u32 self_tgid = 0;
#endif

static __always_inline __u64 process_start(void)
{
#ifdef COPIES /* programs that read by copying: no bpf_get_current_task_btf before 5.11 */
	struct task_struct *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, group_leader, start_boottime);
#else
	struct task_struct *task = (void *)bpf_get_current_task_btf();

	return task->group_leader->start_boottime;
#endif
}

/* Tells user space of the current process unless it has been told. Functions
 * that are not static are verified once, not at every call. */
__noinline int announce(__u64 start_ns, __u32 tgid)
{
	struct process_key key = { .start_ns = start_ns, .tgid = tgid };
	struct process p = { .start_ns = start_ns, .tgid = tgid };
	__u8 one = 1;

	if (bpf_map_update_elem(&known, &key, &one, BPF_NOEXIST))
		return 0;
	bpf_get_current_comm(p.comm, sizeof(p.comm));
	return bpf_ringbuf_output(&arrivals, &p, sizeof(p), BPF_RB_FORCE_WAKEUP);
}

/* The peer's address as 16 bytes, IPv4 mapped into IPv6. */
static __always_inline void peer_address(struct sock *sk, __u32 addr[4])
{
	if (sk->__sk_common.skc_family == AF_INET6) {
		addr[0] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[0];
		addr[1] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[1];
		addr[2] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[2];
		addr[3] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[3];
		return;
	}
	addr[0] = 0;
	addr[1] = 0;
	addr[2] = bpf_htonl(0xffff);
	addr[3] = sk->__sk_common.skc_daddr;
}

/* The socket's own address, likewise. */
static __always_inline void local_address(struct sock *sk, __u32 addr[4])
{
	if (sk->__sk_common.skc_family == AF_INET6) {
		addr[0] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[0];
		addr[1] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[1];
		addr[2] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[2];
		addr[3] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[3];
		return;
	}
	addr[0] = 0;
	addr[1] = 0;
	addr[2] = bpf_htonl(0xffff);
	addr[3] = sk->__sk_common.skc_rcv_saddr;
}

/* floor(log2(v)), 0 for 0. */
static __always_inline __u32 log2_64(__u64 v)
{
	__u32 r = 0;

	if (v >> 32) { v >>= 32; r += 32; }
	if (v >> 16) { v >>= 16; r += 16; }
	if (v >> 8) { v >>= 8; r += 8; }
	if (v >> 4) { v >>= 4; r += 4; }
	if (v >> 2) { v >>= 2; r += 2; }
	return r + (v >> 1);
}
