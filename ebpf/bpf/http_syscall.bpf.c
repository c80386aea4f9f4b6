//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP where system calls return, by raw tracepoints: for kernels without
 * bpf_task_pt_regs (before 5.15), whose programs cannot ask for the registers of
 * the call that is under way, and without functions that can be hooked. Every
 * system call of the host pays for it. The registers still hold the arguments
 * then; the socket is found in the table of open files. */
#define UNTYPED
#define COPIES
#define BOUNDED 512
#include "http_core.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct inode___fd {
	unsigned short i_mode;
};
struct file___fd {
	struct inode___fd *f_inode;
	void *private_data;
};
struct fdtable {
	unsigned int max_fds;
	struct file___fd **fd;
};
struct files_struct {
	struct fdtable *fdt;
};
struct task_struct___fd {
	struct files_struct *files;
};
struct sk_buff___probe {
	unsigned int len;
	unsigned char *data;
};
#if defined(__TARGET_ARCH_x86)
struct pt_regs___exit {
	unsigned long r10;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
	unsigned short cs;
};
#define EXIT_NR(r) ((long)BPF_CORE_READ(r, orig_ax))
#define EXIT_ARG1(r) BPF_CORE_READ(r, di)
#define EXIT_ARG2(r) BPF_CORE_READ(r, si)
#define EXIT_ARG3(r) BPF_CORE_READ(r, dx)
#define EXIT_ARG4(r) BPF_CORE_READ(r, r10)
#define EXIT_32BIT(r) (BPF_CORE_READ(r, cs) == 0x23)
#else
struct pt_regs___exit {
	__u64 regs[31];
	__u64 pstate;
	__u64 orig_x0;
	__s32 syscallno;
};
#define EXIT_NR(r) ((long)BPF_CORE_READ(r, syscallno))
#define EXIT_ARG1(r) BPF_CORE_READ(r, orig_x0)
#define EXIT_ARG2(r) BPF_CORE_READ(r, regs[1])
#define EXIT_ARG3(r) BPF_CORE_READ(r, regs[2])
#define EXIT_ARG4(r) BPF_CORE_READ(r, regs[3])
#define EXIT_32BIT(r) (BPF_CORE_READ(r, pstate) & 0x10)
#endif
#pragma clang attribute pop

#define S_IFMT 0170000
#define S_IFSOCK 0140000

/* The system call that has returned. */
struct returned {
	__u64 regs;
	__u64 nr;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct returned);
} returned SEC(".maps");

static __always_inline bool buffers(struct scratch *b)
{
	__u32 zero = 0;
	struct returned *r = bpf_map_lookup_elem(&returned, &zero);
	struct pt_regs___exit *regs;

	if (!r)
		return false;
	regs = (void *)r->regs;
	return buffers_of(b, r->nr, EXIT_ARG2(regs), EXIT_ARG3(regs));
}

/* The socket that a descriptor of the current process is, or 0. */
static __always_inline __u64 socket_of(__u32 fd)
{
	struct task_struct___fd *task = (void *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file___fd *file = 0, **files;
	struct socket *socket;

	if (fd >= BPF_CORE_READ(table, max_fds))
		return 0;
	files = BPF_CORE_READ(table, fd);
	if (bpf_probe_read_kernel(&file, sizeof(file), files + fd) || !file)
		return 0;
	if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	return (__u64)BPF_CORE_READ(socket, sk);
}

enum direction { NEITHER, IN, OUT };

SEC("raw_tp/sys_exit")
int received(__u64 *ctx)
{
	struct pt_regs___exit *regs = (void *)ctx[0];
	long ret = ctx[1], nr;
	__u32 zero = 0, flags = 0;
	enum direction way = NEITHER;
	struct returned *r;
	__u64 sk, fd;

	if (ret <= 0)
		return 0;
	nr = EXIT_NR(regs);
	switch (nr) {
	case NR_recvfrom:
		flags = EXIT_ARG4(regs);
		way = IN;
		break;
	case NR_recvmsg:
		flags = EXIT_ARG3(regs);
		way = IN;
		break;
	case NR_read:
	case NR_readv:
	case NR_preadv2:
	case NR_splice:
		way = IN;
		break;
	case NR_write:
	case NR_writev:
	case NR_pwritev2:
	case NR_sendto:
	case NR_sendmsg:
	case NR_sendmmsg:
	case NR_sendfile:
		way = OUT;
		break;
	default:
		return 0;
	}
	if (EXIT_32BIT(regs))
		return 0;
	fd = EXIT_ARG1(regs);
	sk = socket_of(fd);
	if (!sk && nr == NR_splice) {
		/* into a socket instead of out of one */
		fd = EXIT_ARG3(regs);
		sk = socket_of(fd);
		way = OUT;
	}
	if (!sk)
		return 0;
	r = bpf_map_lookup_elem(&returned, &zero);
	if (!r)
		return 0;
	r->regs = (__u64)regs;
	r->nr = nr;
	return on_io((struct sock *)sk, ret, flags, way == OUT);
}

/* Data has come for a connection. */
SEC("raw_tp/tcp_probe")
int ready(__u64 *ctx)
{
	struct sk_buff___probe *skb = (void *)ctx[1];
	struct tcp_sock *tp = (void *)ctx[0];
	__u32 head[4], size, length, seq;

	if (bpf_probe_read_kernel(head, sizeof(head), BPF_CORE_READ(skb, data)))
		return 0;
	size = (bpf_ntohl(head[3]) >> 28) * 4;
	length = BPF_CORE_READ(skb, len);
	if (length <= size)
		return 0; /* an acknowledgement */
	seq = bpf_ntohl(head[1]) + length - size;
	if ((__s32)(seq - BPF_CORE_READ(tp, rcv_nxt)) <= 0)
		return 0; /* had that already */
	return on_ready((struct sock *)tp, seq);
}

SEC("raw_tp/inet_sock_set_state")
int closed(__u64 *ctx)
{
	return on_state((struct sock *)ctx[0], ctx[2]);
}
