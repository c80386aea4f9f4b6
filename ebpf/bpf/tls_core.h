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

#define RING_BYTES (2 * 1024 * 1024)
#define RING_STEP (256 * 1024)

#include "tls.h"
#include "ring.h"

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

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct tls_cipher_key);
	__type(value, struct tls_cipher);
} ciphers SEC(".maps");

#define MODE_C 1
#define MODE_GO 2
#define MODE_IGNORED 4
#define MODE_MEMORY 8 /* OpenSSL is handed memory, and user space was told */

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

const struct tls_process *bind_process __attribute__((unused));

static __always_inline __u64 new_id(void)
{
	return bpf_ktime_get_ns() << 8 | (bpf_get_smp_processor_id() & 255);
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

static __always_inline void unanchor(__u64 tls, __u32 tgid)
{
	struct tls_conn_key key = { .tls = tls, .tgid = tgid };
	struct tls_conn *c = bpf_map_lookup_elem(&conns, &key);

	if (c)
		c->fresh = c->anchored = 0;
}

static __always_inline void enter(struct tls_call_key *key, struct tls_call *call, __u32 tgid)
{
	call->enter_ns = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&calls, key, call, BPF_ANY)) {
		count(TLS_STAT_CALLS);
		unanchor(call->tls, tgid); /* what the call moves is not counted */
	}
}

/* A connection begins: what the pointer was before is over. */
static __always_inline void begin(__u64 tls, __u32 tgid)
{
	struct tls_conn_key key = { .tls = tls, .tgid = tgid };
	struct tls_conn c = { .id = new_id(), .fresh = 1 };

	bpf_map_update_elem(&conns, &key, &c, BPF_ANY);
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
	enter(&key, &call, key.task >> 32);
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
	struct tls_conn_key conn = {};
	struct tls_conn *c;
	__u64 bounds[2] = {};

	call.process_start = process_start();
	if (!watched(call.process_start, key.task, MODE_GO))
		return 0;
	if (kind == TLS_HANDSHAKE) {
		begin(GO_ARG1(ctx), key.task); /* there is one for each connection */
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
	call.go = 1;
	call.tls = GO_ARG1(ctx);
	if (kind == TLS_SENT) {
		call.length = GO_ARG3(ctx);
		conn.tls = call.tls;
		conn.tgid = key.task;
		c = bpf_map_lookup_elem(&conns, &conn);
		if (c)
			__sync_fetch_and_add(&c->begun, (__u32)call.length);
	}
	enter(&key, &call, key.task);
	return 0;
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
	bpf_ringbuf_submit(e, kind == TLS_MEMORY ? BPF_RB_FORCE_WAKEUP : wake(0));
}

/* A library has written without a socket, so it writes to memory. User space then
 * watches where it reads from memory, too, which is dearer. */
static __always_inline void tell_memory(__u32 tgid)
{
	struct tls_process *p = bpf_map_lookup_elem(&processes, &tgid);

	if (!p || p->mode & (MODE_MEMORY | MODE_IGNORED))
		return;
	p->mode |= MODE_MEMORY;
	tell(TLS_MEMORY, p->start_ns, tgid);
}

/* A handshake takes reading and writing. */
static __always_inline void handshaken(__u64 tls, __u32 tgid)
{
	struct tls_conn_key key = { .tls = tls, .tgid = tgid };
	struct tls_conn *c = bpf_map_lookup_elem(&conns, &key);

	if (c && !c->sk)
		tell_memory(tgid);
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
	e->ready_ns = call->kind == TLS_SENT ? call->enter_ns : call->ready_ns ? call->ready_ns : c->ready_ns;
	e->tgid = tgid;
	e->netns = c->netns;
	e->length = length;
	__builtin_memcpy(e->local, c->local, 16);
	__builtin_memcpy(e->peer, c->peer, 16);
	e->local_port = c->local_port;
	e->peer_port = c->peer_port;
	e->kind = call->kind;
	e->tail = 0;
	e->offset = call->kind == TLS_SENT ? c->moved[1] : c->moved[0];
	e->seq = c->base + e->offset;
	e->placed = c->placed;
	e->anchored = c->anchored;
	e->pad = 0;
	e->acked = call->kind == TLS_RECEIVED && (int)(c->begun - c->told) > 0 ? c->base + c->begun : 0;
	e->pad2 = 0;
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
		/* so that older verifiers, too, know what follows not to be negative */           \
		asm volatile("%0 &= 8191" : "+r"(n));                                              \
		if (n > N)                                                                         \
			n = N;                                                                     \
		e->e.head = n;                                                                     \
		if (bad || bpf_probe_read_user(e->data, n, (void *)call->buffer)) {                \
			e->e.head = e->e.tail = 0; /* nothing of it */                             \
			count(TLS_STAT_UNREADABLE);                                                \
		}                                                                                  \
		bpf_ringbuf_submit(e, wake(0));                                                    \
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
	__u32 end = 0;

	if (!call)
		return 0;
	key.tls = call->tls;
	found = bpf_map_lookup_elem(&conns, &key);
	if (!found && !call->conn)
		found = made_up(&key);
	if (found) {
		if (call->kind == TLS_SENT && !found->sk && !call->go)
			tell_memory(tgid);
		settle(call, found, length);
		copy = *found;
		copy.placed = 1;
		if (call->kind == TLS_SENT)
			found->moved[1] += length;
		else
			found->moved[0] += length;
		found->fresh = 0;
		end = found->moved[1];
	} else {
		/* closed by the peer before the call returned */
		copy.id = call->conn;
		copy.http2 = call->http2;
		copy.base = call->enter_ns; /* unlike any other's */
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
		emit_256(call, c, tgid, length);
	else if (length <= 1024)
		emit_1024(call, c, tgid, length);
	else
		emit_4096(call, c, tgid, length);
	/* not before it lies in the ring */
	if (call->kind == TLS_SENT && call->go && found) {
		found->told = end;
		if ((int)(found->begun - end) < 0)
			found->begun = end;
	}
	return 0;
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
	if (n == 1 && handshake)
		handshaken(call.tls, key.task >> 32);
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
	struct tls_conn_key conn = {};
	struct tls_conn *c;
	__u64 bounds[2] = {};

	if (!found || (found->kind == TLS_HANDSHAKE) != handshake)
		return 0;
	call = *found;
	bpf_map_delete_elem(&calls, &key);
	if (call.kind == TLS_SENT && n >= 0 && (__u64)n < call.length) {
		conn.tls = call.tls;
		conn.tgid = key.task;
		c = bpf_map_lookup_elem(&conns, &conn);
		if (c) /* not all of it was written */
			__sync_fetch_and_add(&c->begun, (__u32)(n - call.length));
	}
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

/* Data that is not seen, before the handshake has ended. */
SEC("uprobe")
int ssl_early(struct uregs *ctx)
{
	unanchor(ARG1(ctx), bpf_get_current_pid_tgid() >> 32);
	return 0;
}

/* What SSL_new gives. */
SEC("uretprobe")
int ssl_made(struct uregs *ctx)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;

	if (RESULT(ctx) && watched(process_start(), tgid, MODE_C))
		begin(RESULT(ctx), tgid);
	return 0;
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
static __always_inline struct tls_call *current_call(__u32 tgid, __u32 mode)
{
	struct tls_call_key key = {};
	struct tls_call *call;
	struct pt_regs *regs;

	if (mode & MODE_C) {
		key.task = bpf_get_current_pid_tgid();
		call = bpf_map_lookup_elem(&calls, &key);
		if (call)
			return call;
	}
	if (!(mode & MODE_GO))
		return 0;
	regs = (void *)bpf_task_pt_regs((void *)bpf_get_current_task_btf());
	key.task = tgid;
	key.g = TASK_G(regs);
	return bpf_map_lookup_elem(&calls, &key);
}

/* Where in user memory the system call under way has, or leaves, its first bytes. */
static __always_inline __u64 io_buffer(void)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs((void *)bpf_get_current_task_btf());
	__u64 at = SYSCALL_ARG2(regs);

	switch (SYSCALL_NR(regs)) {
	case NR_read: case NR_write: case NR_recvfrom: case NR_sendto:
		return at;
	case NR_recvmsg: case NR_sendmsg: /* struct msghdr: its iovec is at 16 */
		if (bpf_probe_read_user(&at, 8, (void *)(at + 16)))
			return 0;
		/* fallthrough */
	case NR_readv: case NR_writev:
		return bpf_probe_read_user(&at, 8, (void *)at) ? 0 : at;
	}
	return 0;
}

static __noinline int learn(struct sock *sk, struct tls_conn *c)
{
	if (!sk || !c)
		return 0;
	local_address(sk, c->local);
	peer_address(sk, c->peer);
	c->local_port = sk->__sk_common.skc_num;
	c->peer_port = bpf_ntohs(sk->__sk_common.skc_dport);
	c->netns = sk->__sk_common.skc_net.net->ns.inum;
	return 0;
}

/* Does what is read or written begin like a record of TLS? What a library calls
 * back may use other sockets meanwhile. */
static __noinline int is_record(int n)
{
	__u64 from = io_buffer();
	__u8 head[4] = {};

	if (!from || n < 3 || bpf_probe_read_user(head, 3, (void *)from))
		return 0;
	return head[0] >= 20 && head[0] <= 23 && head[1] == 3 && head[2] <= 4;
}

/* Notes where a socket of a process that hands its library memory is in what it
 * carries, and what it reads: see bind. at is the first byte's sequence number. */
static __noinline int note(struct sock *sk, struct tls_sock *s, __u32 at, int n, bool sent)
{
	struct tls_cipher_key key = { .tgid = bpf_get_current_pid_tgid() >> 32 };
	struct tls_cipher fresh = { .sk = (__u64)sk }, *old;
	struct tls_conn c = {};
	__u8 head[8] = {};
	__u64 from;

	if (!sk || !s || n < 5 + 24 || s->noted > 64)
		return 0;
	from = io_buffer();
	if (!from || bpf_probe_read_user(head, sizeof(head), (void *)from) || head[1] != 3)
		return 0;
	/* a ClientHello; one that follows a HelloRetryRequest has another version */
	if (head[0] == 22 && head[2] == 1 && head[5] == 1 && !s->greeted) {
		s->base = at;
		s->greeted = 1;
	}
	if (sent)
		return 0;
	/* A record with data, or with the hello of either side: the others may be the
	 * same on several connections. */
	if (head[0] != 23 && !(head[0] == 22 && (head[5] == 1 || head[5] == 2)))
		return 0;
	if (bpf_probe_read_user(key.bytes, sizeof(key.bytes), (void *)(from + 5 + 8)))
		return 0;
	if (key.bytes[0] == bpf_cpu_to_be64(0xad74e59a6111be1dULL))
		return 0; /* HelloRetryRequest, which is always the same */
	s->noted++;
	learn(sk, &c);
	__builtin_memcpy(fresh.local, c.local, 16);
	__builtin_memcpy(fresh.peer, c.peer, 16);
	fresh.local_port = c.local_port;
	fresh.peer_port = c.peer_port;
	fresh.netns = c.netns;
	fresh.base = s->base;
	fresh.greeted = s->greeted;
	old = bpf_map_lookup_elem(&ciphers, &key);
	if (old && old->sk != (__u64)sk)
		old->sk = 0; /* somebody repeats what another has sent */
	else
		bpf_map_update_elem(&ciphers, &key, &fresh, BPF_ANY);
	return 0;
}

static __always_inline int on_io(struct sock *sk, int ret, int flags, bool sent)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32, at;
	struct tls_process *p = bpf_map_lookup_elem(&processes, &tgid);
	struct tls_conn_key key = {};
	struct tcp_sock *tp;
	struct tls_call *call;
	struct tls_sock *s;
	struct tls_conn *c;

	if (!p || p->mode & MODE_IGNORED || ret <= 0 || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (!sent && (flags & (MSG_PEEK | MSG_ERRQUEUE)))
		return 0;
	call = current_call(tgid, p->mode);
	if (!call && !(p->mode & MODE_MEMORY))
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	s = bpf_sk_storage_get(&socks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!s || !tp)
		return 0;
	at = (sent ? tp->write_seq : tp->copied_seq) - ret;
	if (!call)
		return s->id ? 0 : note(sk, s, at, ret, sent);
	key.tls = call->tls;
	key.tgid = tgid;
	c = bpf_map_lookup_elem(&conns, &key);
	if (!c || c->sk != (__u64)sk || c->id != s->id) {
		struct tls_conn fresh = { .sk = (__u64)sk };

		if (!is_record(ret))
			return 0;
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
			fresh.begun = c->begun;
			fresh.told = c->told;
			if (c->fresh) {
				fresh.anchored = 1;
				fresh.base = at;
			}
		}
		learn(sk, &fresh);
		bpf_map_update_elem(&conns, &key, &fresh, BPF_ANY);
		c = bpf_map_lookup_elem(&conns, &key);
	}
	call->conn = s->id;
	if (c)
		call->http2 = c->http2;
	if (!sent) {
		if (!call->ready_ns)
			call->ready_ns = s->ready_ns;
		if (c)
			c->ready_ns = call->ready_ns;
		if (tp->rcv_nxt == tp->copied_seq) {
			s->ready_ns = 0;
		} else if ((int)(tp->copied_seq - s->ready_seq) >= 0) {
			/* what is left came later, by now */
			s->ready_ns = bpf_ktime_get_ns();
			s->ready_seq = tp->rcv_nxt;
		}
	}
	return 0;
}

/* What the library reads from memory came from a socket: it is the one that
 * received the same bytes. */
static __noinline int bind(struct tls_conn *c, __u32 tgid, __u64 at)
{
	struct tls_cipher_key key = { .tgid = tgid };
	struct tls_cipher *from;

	if (!c || bpf_probe_read_user(key.bytes, sizeof(key.bytes), (void *)(at + 8)))
		return 0;
	from = bpf_map_lookup_elem(&ciphers, &key);
	if (!from || !from->sk)
		return 0;
	__builtin_memcpy(c->local, from->local, 16);
	__builtin_memcpy(c->peer, from->peer, 16);
	c->local_port = from->local_port;
	c->peer_port = from->peer_port;
	c->netns = from->netns;
	if (c->fresh && from->greeted) {
		c->base = from->base;
		c->anchored = 1;
	}
	c->sk = from->sk;
	c->fresh = 0;
	bpf_map_delete_elem(&ciphers, &key);
	return 1;
}

/* OpenSSL reads from what it was handed, within a call. */
SEC("uprobe")
int bio_read(struct uregs *ctx)
{
	struct tls_call_key key = { .task = bpf_get_current_pid_tgid() };
	struct tls_call *call = bpf_map_lookup_elem(&calls, &key);

	if (call)
		call->bio = ARG2(ctx);
	return 0;
}

SEC("uretprobe")
int bio_return(struct uregs *ctx)
{
	struct tls_call_key key = { .task = bpf_get_current_pid_tgid() };
	struct tls_call *call = bpf_map_lookup_elem(&calls, &key);
	struct tls_conn_key of = { .tgid = key.task >> 32 };
	struct tls_conn *c;
	int n = RESULT(ctx);
	__u64 at;

	if (!call || !call->bio)
		return 0;
	at = call->bio;
	call->bio = 0;
	if (n < 24)
		return 0; /* a record's header, as a rule */
	of.tls = call->tls;
	c = bpf_map_lookup_elem(&conns, &of);
	if (!c)
		c = made_up(&of);
	if (!c || c->sk || bind(c, of.tgid, at) || n < 5 + 24)
		return 0;
	bind(c, of.tgid, at + 5); /* if it reads several records at once */
	return 0;
}

static __always_inline int on_ready(struct sock *sk)
{
	struct tcp_sock *tp;
	struct tls_sock *s;

	if (sk->sk_protocol != IPPROTO_TCP || sk->__sk_common.skc_state == LISTEN)
		return 0;
	s = bpf_sk_storage_get(&socks, sk, 0, 0);
	if (s && !s->ready_ns) {
		tp = bpf_skc_to_tcp_sock(sk);
		s->ready_ns = bpf_ktime_get_ns();
		s->ready_seq = tp ? tp->rcv_nxt : 0;
	}
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
	__u32 tgid = task->tgid;

	if (tgid == self_tgid)
		return 0;
	bpf_map_delete_elem(&processes, &tgid); /* what is known is about another program */
	tell(TLS_EXEC, 0, tgid);
	return 0;
}
