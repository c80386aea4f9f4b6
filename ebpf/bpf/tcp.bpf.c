//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 */
/* Counts TCP connections by process and remote.
 *
 * Nothing runs per packet or per call: the kernel counts bytes and retransmits
 * of each socket itself. They are added to the flows map as differences, by an
 * iterator over all open files whenever somebody asks, and when a connection
 * ends. The iterator also finds who owns a socket, and the connections that are
 * older than the probe. */
#include "tcp.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const struct process *bind_process __attribute__((unused));
const struct tcp_open *bind_open __attribute__((unused));
const struct tcp_place *bind_place __attribute__((unused));
const struct process_key *bind_key __attribute__((unused));
const enum tcp_stat *bind_stat __attribute__((unused));
const enum tcp_role *bind_role __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct tcp_key);
	__type(value, struct tcp_value);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct tcp_failure);
	__type(value, __u64);
} failures SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct tcp_conn);
} tcp_conns SEC(".maps");

COUNTERS(TCP_STATS)

/* Ports that are listened on. Which side an older connection began on is told
 * by them only. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u16);
	__type(value, __u8);
} listeners SEC(".maps");

/* Which process answers where, so that those who ask it can be told whom they
 * ask. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct tcp_place);
	__type(value, struct process_key);
} servers SEC(".maps");

/* How many remotes a process has in the flows map. One that asks any number of
 * addresses, as a crawler does, would leave no room for others: what it asks
 * beyond MAX_REMOTES is one remote, without address and port. */
#define MAX_REMOTES 256
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct process_key);
	__type(value, __u32);
} remotes SEC(".maps");

/* Set by user space after a first walk, which looks for listeners only. */
volatile __u32 listeners_known = 0;

/* Which remote a socket belongs to. */
static __always_inline void describe(struct tcp_conn *c, struct sock *sk, __u8 role)
{
	c->key.role = role;
	if (role == TCP_INCOMING) {
		c->key.port = sk->__sk_common.skc_num;
		return;
	}
	c->key.port = bpf_ntohs(sk->__sk_common.skc_dport);
	peer_address(sk, c->key.addr);
}

/* A process has one remote more, or, with too many, one for all others. */
static __noinline int crowd(struct tcp_key *key)
{
	struct process_key who = {};
	__u32 one = 1, *n;

	if (!key || !key->port)
		return 0;
	who.start_ns = key->start_ns;
	who.tgid = key->tgid;
	n = bpf_map_lookup_elem(&remotes, &who);
	if (!n) {
		bpf_map_update_elem(&remotes, &who, &one, BPF_ANY);
		return 0;
	}
	if (*n < MAX_REMOTES) {
		__sync_fetch_and_add(n, 1);
		return 0;
	}
	key->port = 0;
	key->addr[0] = 0;
	key->addr[1] = 0;
	key->addr[2] = 0;
	key->addr[3] = 0;
	return 1;
}

/* Adds what is new of a connection to its flow. */
static __always_inline void add(struct tcp_conn *c, struct sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct tcp_value zero = {}, *v;
	__u64 sent, received, retransmits;
	struct tcp_key key = c->key;

	if (!tp || !key.tgid || key.tgid == self_tgid)
		return;
	sent = tp->bytes_sent - tp->bytes_retrans;
	/* the peer's FIN counts as a byte */
	received = tp->bytes_received - (sk->__sk_common.skc_flags >> SOCK_DONE & 1);
	if (!tp->bytes_received)
		received = 0;
	retransmits = tp->total_retrans;
	v = bpf_map_lookup_elem(&flows, &key);
	if (!v && crowd(&key)) {
		/* from now on, so that it is told as it is counted */
		c->key = key;
		v = bpf_map_lookup_elem(&flows, &key);
	}
	if (!v) {
		bpf_map_update_elem(&flows, &key, &zero, BPF_NOEXIST);
		v = bpf_map_lookup_elem(&flows, &key);
		if (!v) {
			count(TCP_STAT_FULL);
			return;
		}
	}
	if (c->fresh) {
		c->fresh = 0;
		__sync_fetch_and_add(&v->connects, 1);
	}
	if (sent > c->sent)
		__sync_fetch_and_add(&v->sent, sent - c->sent);
	if (received > c->received)
		__sync_fetch_and_add(&v->received, received - c->received);
	if (retransmits > c->retransmits)
		__sync_fetch_and_add(&v->retransmits, retransmits - c->retransmits);
	c->sent = sent;
	c->received = received;
	c->retransmits = retransmits;
}

static __always_inline bool loopback(const __u32 addr[4])
{
	if (addr[2] == bpf_htonl(0xffff))
		return (bpf_ntohl(addr[3]) >> 24) == 127;
	return !addr[0] && !addr[1] && !addr[2] && addr[3] == bpf_htonl(1);
}

/* Remembers who answers where an incoming connection came in. */
static __always_inline void answers(struct tcp_conn *c, struct sock *sk)
{
	struct tcp_place place = { .port = c->key.port };
	struct process_key who = { .start_ns = c->key.start_ns, .tgid = c->key.tgid };

	if (c->key.role != TCP_INCOMING)
		return;
	local_address(sk, place.addr);
	if (loopback(place.addr))
		place.netns = sk->__sk_common.skc_net.net->ns.inum;
	bpf_map_update_elem(&servers, &place, &who, BPF_ANY);
}

static __always_inline void own(struct tcp_conn *c, struct sock *sk)
{
	c->key.tgid = bpf_get_current_pid_tgid() >> 32;
	c->key.start_ns = process_start();
	answers(c, sk);
	announce(c->key.start_ns, c->key.tgid);
}

static __always_inline void fail(struct tcp_conn *c, struct sock *sk)
{
	struct tcp_failure key = { .remote = c->key, .error = sk->sk_err };
	__u64 one = 1, *n;

	if (!c->key.tgid || c->key.tgid == self_tgid)
		return;
	n = bpf_map_lookup_elem(&failures, &key);
	if (!n && crowd(&key.remote))
		n = bpf_map_lookup_elem(&failures, &key);
	if (n)
		__sync_fetch_and_add(n, 1);
	else if (bpf_map_update_elem(&failures, &key, &one, BPF_NOEXIST))
		count(TCP_STAT_FULL);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, struct sock *sk, int oldstate, int newstate)
{
	struct tcp_conn *c;

	if (sk->sk_protocol != IPPROTO_TCP || oldstate == LISTEN || newstate == LISTEN)
		return 0;
	if (newstate == SYN_SENT || (newstate == ESTABLISHED && oldstate == SYN_RECV)) {
		c = bpf_sk_storage_get(&tcp_conns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (!c)
			return 0;
		__builtin_memset(c, 0, sizeof(*c));
		c->fresh = 1;
		if (newstate == SYN_SENT) {
			/* the address is set before, the port of a bound socket, too */
			describe(c, sk, TCP_OUTGOING);
			own(c, sk);
		} else {
			describe(c, sk, TCP_INCOMING);
		}
		return 0;
	}
	c = bpf_sk_storage_get(&tcp_conns, sk, 0, 0);
	if (!c)
		return 0;
	if (newstate == ESTABLISHED) {
		add(c, sk);
	} else if (oldstate == SYN_SENT && newstate == CLOSE) {
		fail(c, sk);
	} else if (newstate == FIN_WAIT1 || newstate == LAST_ACK) {
		/* the process closes */
		if (!c->key.tgid)
			own(c, sk);
	} else if (newstate == CLOSE) {
		if (!c->key.tgid)
			count(TCP_STAT_UNOWNED);
		add(c, sk);
	}
	return 0;
}

SEC("iter/task_file")
int tcp_walk(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct tcp_open open = {};
	struct socket *socket;
	struct tcp_sock *tp;
	struct tcp_conn *c;
	struct sock *sk;
	__u8 state;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk || (sk->sk_protocol != IPPROTO_TCP && sk->sk_protocol != IPPROTO_MPTCP))
		return 0;
	state = sk->__sk_common.skc_state;
	if (state == LISTEN) {
		/* a listener for MPTCP, which Go opens, gives TCP connections */
		__u16 port = sk->__sk_common.skc_num;
		__u8 one = 1;

		bpf_map_update_elem(&listeners, &port, &one, BPF_ANY);
		return 0;
	}
	if (state == CLOSE || state == SYN_SENT || !listeners_known)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	c = bpf_sk_storage_get(&tcp_conns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!c)
		return 0;
	if (!c->key.tgid) {
		if (!c->key.port) {
			/* older than the probe */
			__u16 port = sk->__sk_common.skc_num;
			bool incoming = bpf_map_lookup_elem(&listeners, &port) != 0;

			describe(c, sk, incoming ? TCP_INCOMING : TCP_OUTGOING);
			c->sent = tp->bytes_sent - tp->bytes_retrans;
			c->received = tp->bytes_received;
			c->retransmits = tp->total_retrans;
		}
		c->key.tgid = task->tgid;
		c->key.start_ns = task->group_leader->start_boottime;
		answers(c, sk);
	}
	if (c->key.tgid == self_tgid || c->session == ctx->meta->session_id)
		return 0; /* ours, or another descriptor of the same socket */
	c->session = ctx->meta->session_id;
	add(c, sk);
	open.key = c->key;
	open.rtt_us = tp->srtt_us >> 3;
	bpf_seq_write(ctx->meta->seq, &open, sizeof(open));
	return 0;
}
