/* SPDX-License-Identifier: Apache-2.0 */
/* What TLS libraries are handed and hand out, before and after encryption.
 *
 * Uprobes note a call to read or write when it begins, and copy the plaintext's
 * head and tail when it returns. Whatever socket the same thread (of Go: the
 * same goroutine) reads or writes meanwhile is the connection's; it is kept by
 * the library's pointer, so that calls that find all they need in the library's
 * buffers know it, too.
 *
 * A uprobe may be preempted by another on the same CPU, so nothing here is kept
 * by CPU: events are written in the ring where they stay. */
#pragma once

#include "tls.h"

/* keeps the types in the object, for the bindings */
const struct tls_event *bind_event __attribute__((unused));
const enum tls_kind *bind_kind __attribute__((unused));
const enum tls_stat *bind_stat __attribute__((unused));

/* Calls of processes that died in them are taken out by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct tls_call_key);
	__type(value, struct tls_call);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct tls_conn_key);
	__type(value, struct tls_conn);
} conns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct tls_sock);
} socks SEC(".maps");

#define MODE_C 1
#define MODE_GO 2
#define MODE_IGNORED 4

struct tls_process {
	__u64 start_ns;
	__u32 mode;
	__u32 pad;
};

/* Processes in which probes fire: those that user space does not care for are
 * ignored, and for all others sockets cost one look-up. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct tls_process);
} processes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, TLS_RING_BYTES);
} events SEC(".maps");

const struct tls_process *bind_process __attribute__((unused));

static __always_inline __u64 new_id(void)
{
	return bpf_ktime_get_ns() << 8 | (bpf_get_smp_processor_id() & 255);
}

static __always_inline __u64 wake(void)
{
	return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > TLS_WAKE_BYTES ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* Notes that probes fire in this process; false: it is not looked at. */
static __always_inline bool watched(__u64 start, __u32 tgid, __u32 mode)
{
	struct tls_process *p, fresh = { .start_ns = start, .mode = mode };

	if (tgid == self_tgid)
		return false;
	p = bpf_map_lookup_elem(&processes, &tgid);
	if (p && p->start_ns == start) {
		if (p->mode & MODE_IGNORED)
			return false;
		if (!(p->mode & mode))
			p->mode |= mode;
		return true;
	}
	bpf_map_update_elem(&processes, &tgid, &fresh, BPF_ANY);
	announce(start, tgid);
	return true;
}

static __always_inline void enter(struct tls_call_key *key, struct tls_call *call)
{
	call->enter_ns = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&calls, key, call, BPF_ANY))
		count(TLS_STAT_CALLS);
}

static __always_inline int c_enter(struct uregs *ctx, __u8 kind, bool ex)
{
	struct tls_call_key key = { .task = bpf_get_current_pid_tgid() };
	struct tls_call call = {}, *outer;

	call.process_start = process_start();
	if (!watched(call.process_start, key.task >> 32, MODE_C))
		return 0;
	if (kind == TLS_HANDSHAKE) {
		outer = bpf_map_lookup_elem(&calls, &key);
		if (outer && outer->kind != TLS_HANDSHAKE && STACK(ctx) < outer->stack)
			return 0; /* part of a read or write */
	} else {
		call.buffer = ARG2(ctx);
	}
	if (ex)
		call.length_at = ARG4(ctx);
	call.kind = kind;
	call.tls = ARG1(ctx);
	call.stack = STACK(ctx);
	enter(&key, &call);
	return 0;
}

/* A goroutine's stack may be moved while it is in a call, and a buffer on it
 * with it; its distance from the end of the stack stays. */
static __always_inline __u64 go_stack(__u64 g, __u64 bounds[2])
{
	return bpf_probe_read_user(bounds, 16, (void *)g) ? 0 : bounds[1];
}

static __always_inline int go_enter(struct uregs *ctx, __u8 kind)
{
	struct tls_call_key key = { .task = bpf_get_current_pid_tgid() >> 32, .g = GO_G(ctx) };
	struct tls_call call = {}, *outer;
	__u64 bounds[2] = {};

	call.process_start = process_start();
	if (!watched(call.process_start, key.task, MODE_GO))
		return 0;
	if (kind == TLS_HANDSHAKE) {
		outer = bpf_map_lookup_elem(&calls, &key);
		if (outer && outer->kind != TLS_HANDSHAKE && outer->tls == GO_ARG1(ctx))
			return 0;
	} else {
		call.buffer = GO_ARG2(ctx);
		if (go_stack(key.g, bounds) && call.buffer >= bounds[0] && call.buffer < bounds[1]) {
			call.on_stack = 1;
			call.buffer = bounds[1] - call.buffer;
		}
	}
	call.kind = kind;
	call.tls = GO_ARG1(ctx);
	enter(&key, &call);
	return 0;
}

/* A connection whose socket is not known. */
static __always_inline struct tls_conn *made_up(struct tls_conn_key *key)
{
	struct tls_conn fresh = { .id = new_id() };

	bpf_map_update_elem(&conns, key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&conns, key);
}

static __always_inline void fill(struct tls_event *e, struct tls_call *call, struct tls_conn *c, __u32 tgid, __u32 length)
{
	e->conn = c->id;
	e->process_start = call->process_start;
	e->at_ns = bpf_ktime_get_ns();
	e->ready_ns = call->kind == TLS_SENT ? call->enter_ns : call->ready_ns;
	e->tgid = tgid;
	e->netns = c->netns;
	e->seq = call->seq;
	e->length = length;
	__builtin_memcpy(e->local, c->local, 16);
	__builtin_memcpy(e->peer, c->peer, 16);
	e->local_port = c->local_port;
	e->peer_port = c->peer_port;
	e->kind = call->kind;
	e->tail = 0;
	e->offset = call->kind == TLS_SENT ? c->moved[1] : c->moved[0];
	e->placed = c->placed;
	__builtin_memset(e->pad, 0, sizeof(e->pad));
	bpf_get_current_comm(e->comm, sizeof(e->comm));
}

/* The size of what is reserved in a ring must be known to the verifier, so there
 * are three; shorter plaintext lies in the next larger one. */
#define EMIT(N)                                                                                    \
	struct tls_event_##N {                                                                     \
		struct tls_event e;                                                                \
		__u8 data[N];                                                                      \
	};                                                                                         \
	static __always_inline int emit_##N(struct tls_call *call, struct tls_conn *c, __u32 tgid, \
					    __u64 length)                                          \
	{                                                                                          \
		struct tls_event_##N *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);             \
		__u64 n = length;                                                                  \
		long bad = 0;                                                                      \
                                                                                                   \
		if (!e) {                                                                          \
			count(TLS_STAT_RING);                                                      \
			return 0;                                                                  \
		}                                                                                  \
		fill(&e->e, call, c, tgid, length);                                                \
		if (N == CAPTURE && length > N) {                                                  \
			n = N - TAIL;                                                              \
			e->e.tail = TAIL;                                                          \
			bad = bpf_probe_read_user(e->data + (N - TAIL), TAIL,                      \
						  (void *)(call->buffer + length - TAIL));         \
		}                                                                                  \
		asm volatile("" : "+r"(n));                                                        \
		if (n > N)                                                                         \
			n = N;                                                                     \
		e->e.head = n;                                                                     \
		if (bad || bpf_probe_read_user(e->data, n, (void *)call->buffer)) {                \
			e->e.head = e->e.tail = 0; /* nothing of it */                             \
			count(TLS_STAT_UNREADABLE);                                                \
		}                                                                                  \
		bpf_ringbuf_submit(e, wake());                                                     \
		return 0;                                                                          \
	}

EMIT(256)
EMIT(1024)
EMIT(4096)

/* The first bytes of a connection tell HTTP/2: a client's preface, or a server's
 * SETTINGS. */
static __always_inline void settle(struct tls_call *call, struct tls_conn *c, __u64 length)
{
	__u8 b[9] = {};

	if (c->known || length < sizeof(b) || bpf_probe_read_user(b, sizeof(b), (void *)call->buffer))
		return;
	c->known = 1;
	if (b[0] == 'P' && b[1] == 'R' && b[2] == 'I' && b[3] == ' ')
		c->http2 = 1;
	else if (!b[0] && !b[1] && b[3] == 4 && !b[4] && !b[5] && !b[6] && !b[7] && !b[8])
		c->http2 = 1;
}

/* A call has moved length bytes of plaintext. */
static __noinline int piece(struct tls_call *call, __u32 tgid, __u64 length)
{
	struct tls_conn_key key = { .tgid = tgid };
	struct tls_conn *found, copy = {}, *c = &copy;

	if (!call)
		return 0;
	key.tls = call->tls;
	found = bpf_map_lookup_elem(&conns, &key);
	if (!found && !call->conn)
		found = made_up(&key);
	if (found) {
		settle(call, found, length);
		copy = *found;
		copy.placed = 1;
		if (call->kind == TLS_SENT)
			found->moved[1] += length;
		else
			found->moved[0] += length;
	} else {
		/* closed by the peer before the call returned */
		copy.id = call->conn;
		copy.http2 = call->http2;
	}
	if (c->http2) {
		for (int i = 0; i < PIECES - 1; i++) {
			if (length <= CAPTURE)
				break;
			emit_4096(call, c, tgid, CAPTURE);
			call->buffer += CAPTURE;
			length -= CAPTURE;
			c->moved[0] += CAPTURE; /* only one of them is looked at */
			c->moved[1] += CAPTURE;
		}
	}
	if (length <= 256)
		return emit_256(call, c, tgid, length);
	if (length <= 1024)
		return emit_1024(call, c, tgid, length);
	return emit_4096(call, c, tgid, length);
}

static __always_inline int c_return(struct uregs *ctx, bool handshake)
{
	struct tls_call_key key = { .task = bpf_get_current_pid_tgid() };
	struct tls_call *found = bpf_map_lookup_elem(&calls, &key), call;
	int n = RESULT(ctx);
	__u64 length = n;

	if (!found || (found->kind == TLS_HANDSHAKE) != handshake)
		return 0;
	call = *found;
	bpf_map_delete_elem(&calls, &key);
	if (n <= 0 || handshake)
		return 0;
	if (call.length_at && bpf_probe_read_user(&length, 8, (void *)call.length_at)) {
		count(TLS_STAT_UNREADABLE);
		return 0;
	}
	if (!length || length > 0x7fffffff)
		return 0;
	return piece(&call, key.task >> 32, length);
}

static __always_inline int go_return_of(struct uregs *ctx, bool handshake)
{
	struct tls_call_key key = { .task = bpf_get_current_pid_tgid() >> 32, .g = GO_G(ctx) };
	struct tls_call *found = bpf_map_lookup_elem(&calls, &key), call;
	__s64 n = GO_RESULT(ctx);
	__u64 bounds[2] = {};

	if (!found || (found->kind == TLS_HANDSHAKE) != handshake)
		return 0;
	call = *found;
	bpf_map_delete_elem(&calls, &key);
	if (handshake || n <= 0 || n > 0x7fffffff)
		return 0;
	if (call.on_stack)
		call.buffer = go_stack(key.g, bounds) - call.buffer;
	return piece(&call, key.task, n);
}

SEC("uprobe")
int ssl_read(struct uregs *ctx)
{
	return c_enter(ctx, TLS_RECEIVED, false);
}

SEC("uprobe")
int ssl_write(struct uregs *ctx)
{
	return c_enter(ctx, TLS_SENT, false);
}

SEC("uprobe")
int ssl_read_ex(struct uregs *ctx)
{
	return c_enter(ctx, TLS_RECEIVED, true);
}

SEC("uprobe")
int ssl_write_ex(struct uregs *ctx)
{
	return c_enter(ctx, TLS_SENT, true);
}

SEC("uprobe")
int ssl_handshake(struct uregs *ctx)
{
	return c_enter(ctx, TLS_HANDSHAKE, false);
}

SEC("uretprobe")
int ssl_return(struct uregs *ctx)
{
	return c_return(ctx, false);
}

/* Within the function, where its result is settled. */
SEC("uprobe")
int ssl_leave(struct uregs *ctx)
{
	return c_return(ctx, false);
}

SEC("uretprobe")
int ssl_handshake_return(struct uregs *ctx)
{
	return c_return(ctx, true);
}

SEC("uprobe")
int go_read(struct uregs *ctx)
{
	return go_enter(ctx, TLS_RECEIVED);
}

SEC("uprobe")
int go_write(struct uregs *ctx)
{
	return go_enter(ctx, TLS_SENT);
}

SEC("uprobe")
int go_handshake(struct uregs *ctx)
{
	return go_enter(ctx, TLS_HANDSHAKE);
}

/* At RET instructions: a uretprobe would change the return address, which Go
 * reads when it walks or moves the stack. */
SEC("uprobe")
int go_return(struct uregs *ctx)
{
	return go_return_of(ctx, false);
}

SEC("uprobe")
int go_handshake_return(struct uregs *ctx)
{
	return go_return_of(ctx, true);
}

static __always_inline void tell(__u8 kind, __u64 id, __u32 tgid)
{
	struct tls_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		count(TLS_STAT_RING);
		return;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->kind = kind;
	e->conn = id;
	e->tgid = tgid;
	e->at_ns = bpf_ktime_get_ns();
	bpf_ringbuf_submit(e, wake());
}

/* The pointer will be another connection's. */
SEC("uprobe")
int ssl_free(struct uregs *ctx)
{
	struct tls_conn_key key = { .tls = ARG1(ctx), .tgid = bpf_get_current_pid_tgid() >> 32 };
	struct tls_conn *c = bpf_map_lookup_elem(&conns, &key);

	if (!c)
		return 0;
	tell(TLS_CLOSE, c->id, key.tgid);
	bpf_map_delete_elem(&conns, &key);
	return 0;
}

/* The call that the current thread is in. */
static __always_inline struct tls_call *current_call(__u32 tgid)
{
	struct tls_process *p = bpf_map_lookup_elem(&processes, &tgid);
	struct tls_call_key key = {};
	struct tls_call *call;
	struct pt_regs *regs;

	if (!p || p->mode & MODE_IGNORED)
		return 0;
	if (p->mode & MODE_C) {
		key.task = bpf_get_current_pid_tgid();
		call = bpf_map_lookup_elem(&calls, &key);
		if (call)
			return call;
	}
	if (!(p->mode & MODE_GO))
		return 0;
	regs = (void *)bpf_task_pt_regs((void *)bpf_get_current_task_btf());
	key.task = tgid;
	key.g = TASK_G(regs);
	return bpf_map_lookup_elem(&calls, &key);
}

static __noinline int learn(struct sock *sk, struct tls_conn *c)
{
	struct sock___tls *own = (void *)sk;

	if (!sk || !c)
		return 0;
	if (sk->__sk_common.skc_family == AF_INET6) {
		c->local[0] = own->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[0];
		c->local[1] = own->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[1];
		c->local[2] = own->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[2];
		c->local[3] = own->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[3];
	} else {
		c->local[2] = bpf_htonl(0xffff);
		c->local[3] = own->__sk_common.skc_rcv_saddr;
	}
	peer_address(sk, c->peer);
	c->local_port = sk->__sk_common.skc_num;
	c->peer_port = bpf_ntohs(sk->__sk_common.skc_dport);
	c->netns = own->__sk_common.skc_net.net->ns.inum;
	return 0;
}

static __always_inline int on_io(struct sock *sk, int ret, int flags, bool sent)
{
	struct tls_conn_key key = {};
	struct tcp_sock___tls *tp;
	struct tls_call *call;
	struct tls_sock *s;
	struct tls_conn *c;
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;

	if (ret <= 0 || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (!sent && (flags & (MSG_PEEK | MSG_ERRQUEUE)))
		return 0;
	call = current_call(tgid);
	if (!call)
		return 0;
	tp = (void *)bpf_skc_to_tcp_sock(sk);
	s = bpf_sk_storage_get(&socks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!s || !tp)
		return 0;
	key.tls = call->tls;
	key.tgid = tgid;
	c = bpf_map_lookup_elem(&conns, &key);
	if (!c || c->sk != (__u64)sk || c->id != s->id) {
		struct tls_conn fresh = { .sk = (__u64)sk };

		if (!s->id)
			s->id = c && !c->sk ? c->id : new_id();
		s->tls = call->tls;
		s->tgid = tgid;
		fresh.id = s->id;
		if (c && !c->sk) {
			fresh.known = c->known;
			fresh.http2 = c->http2;
			fresh.moved[0] = c->moved[0];
			fresh.moved[1] = c->moved[1];
		}
		learn(sk, &fresh);
		bpf_map_update_elem(&conns, &key, &fresh, BPF_ANY);
	}
	call->conn = s->id;
	if (c)
		call->http2 = c->http2;
	if (!sent) {
		if (!call->ready_ns)
			call->ready_ns = s->ready_ns;
		if (tp->rcv_nxt == tp->copied_seq)
			s->ready_ns = 0;
	}
	if (!call->seen && call->kind == (sent ? TLS_SENT : TLS_RECEIVED)) {
		call->seq = (sent ? tp->write_seq : tp->copied_seq) - ret;
		call->seen = 1;
	}
	return 0;
}

static __always_inline int on_ready(struct sock *sk)
{
	struct tls_sock *s;

	if (sk->sk_protocol != IPPROTO_TCP || sk->__sk_common.skc_state == LISTEN)
		return 0;
	s = bpf_sk_storage_get(&socks, sk, 0, 0);
	if (s && !s->ready_ns)
		s->ready_ns = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(closed, struct sock *sk, int oldstate, int newstate)
{
	struct tls_conn_key key = {};
	struct tls_conn *c;
	struct tls_sock *s;

	if (newstate != CLOSE && newstate != LAST_ACK && newstate != FIN_WAIT1)
		return 0;
	s = bpf_sk_storage_get(&socks, sk, 0, 0);
	if (!s || !s->id)
		return 0;
	key.tls = s->tls;
	key.tgid = s->tgid;
	/* what is done on the socket after all finds it again */
	c = bpf_map_lookup_elem(&conns, &key);
	if (c && c->sk == (__u64)sk)
		bpf_map_delete_elem(&conns, &key);
	if (newstate == CLOSE) {
		tell(TLS_CLOSE, s->id, s->tgid);
		s->id = 0;
	}
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(exec, struct task_struct *task)
{
	if ((__u32)task->tgid != self_tgid)
		tell(TLS_EXEC, 0, task->tgid);
	return 0;
}
