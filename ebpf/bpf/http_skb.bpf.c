//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 */
/* Counts HTTP/1.x requests by looking at the packets of the host's servers.
 *
 * For kernels that offer no place where sockets are read and written. No process
 * is known here, and no message is followed: a request is a segment received that
 * begins with a method, its response the next one sent that begins with a
 * version. On a connection within the host each packet is sent and received, and
 * of either way the server's end is looked at. Nothing here needs type
 * information of the kernel, nor more of it than 4.18 has. */
#define NO_VARIABLES
#include "http_skb.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct http_key);
	__type(value, struct http_value);
} requests SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct http_value);
} zero_value SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_CONNS);
	__type(key, struct skb_ends);
	__type(value, struct skb_conn);
} packet_conns SEC(".maps");

/* Requests that came while another waited for its response. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} pipelined SEC(".maps");

static __always_inline void count_pipelined(void)
{
	__u32 zero = 0;
	__u64 *n = bpf_map_lookup_elem(&pipelined, &zero);

	if (n)
		*n += 1;
}

/* Adds a request to the requests map. */
static __always_inline void record(__u16 port, __u16 status, __u8 method, __u64 ns)
{
	struct http_key key = {
		.port = port, .status = status, .role = ROLE_SERVER, .method = method,
	};
	struct http_value *v = bpf_map_lookup_elem(&requests, &key);
	__u32 zero = 0, s;

	if (!v) {
		v = bpf_map_lookup_elem(&zero_value, &zero);
		if (!v)
			return;
		bpf_map_update_elem(&requests, &key, v, BPF_NOEXIST);
		v = bpf_map_lookup_elem(&requests, &key);
		if (!v) {
			count(STAT_FULL);
			return;
		}
	}
	__sync_fetch_and_add(&v->duration_ns, ns);
	s = duration_slot(ns);
	if (s < SLOTS)
		__sync_fetch_and_add(&v->durations[s], 1);
}

/* Is the socket that a packet is for one that listens? Then the packet ends the
 * handshake, and the connection has no socket yet. Kernels before 5.1 do not tell. */
static __always_inline bool listens(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	return sk && sk->state == STATE_LISTEN;
}

static __always_inline void on_request(struct __sk_buff *skb, bool tells)
{
	struct skb_segment s = {};
	struct skb_conn fresh = {}, *c;
	struct skb_ends ends = {};
	__u64 cookie;
	__u8 method;
	bool known;

	if (!read_segment(skb, &s))
		return;
	method = method_of(s.first[0]);
	if (method == OTHER)
		return;
	__builtin_memcpy(ends.client, s.from, sizeof(ends.client));
	__builtin_memcpy(ends.server, s.to, sizeof(ends.server));
	ends.client_port = s.from_port;
	ends.server_port = s.to_port;
	cookie = tells && listens(skb) ? 0 : bpf_get_socket_cookie(skb);
	c = bpf_map_lookup_elem(&packet_conns, &ends);
	/* else the ends are those of an older connection, or of another namespace's */
	known = c && (c->cookie == cookie || !c->cookie);
	if (known && c->request == s.seq)
		return; /* sent again */
	if (known && c->waiting && cookie) {
		c->skipped++;
		return;
	}
	fresh.cookie = cookie;
	fresh.request = s.seq;
	fresh.method = method;
	fresh.waiting = 1;
	fresh.start_ns = bpf_ktime_get_ns();
	if (known) {
		fresh.response = c->response;
		fresh.answered = c->answered;
	}
	bpf_map_update_elem(&packet_conns, &ends, &fresh, BPF_ANY);
}

static __always_inline void on_response(struct __sk_buff *skb)
{
	struct skb_segment s = {};
	struct skb_ends ends = {};
	struct skb_conn *c;
	__u64 now, cookie;
	__u16 status;

	if (!read_segment(skb, &s))
		return;
	status = skb_status(&s);
	if (!status || (status < 200 && status != 101))
		return;
	__builtin_memcpy(ends.client, s.to, sizeof(ends.client));
	__builtin_memcpy(ends.server, s.from, sizeof(ends.server));
	ends.client_port = s.to_port;
	ends.server_port = s.from_port;
	c = bpf_map_lookup_elem(&packet_conns, &ends);
	cookie = bpf_get_socket_cookie(skb);
	if (!c || (c->cookie && c->cookie != cookie)) {
		count(STAT_UNMATCHED);
		return;
	}
	c->cookie = cookie;
	if (c->answered && c->response == s.seq)
		return; /* sent again */
	c->response = s.seq;
	c->answered = 1;
	if (c->waiting) {
		now = bpf_ktime_get_ns();
		c->waiting = 0;
		record(bpf_ntohs(ends.server_port), status, c->method, now > c->start_ns ? now - c->start_ns : 0);
	} else if (c->skipped) {
		c->skipped--;
		count_pipelined();
	} else {
		count(STAT_UNMATCHED);
	}
}

SEC("cgroup_skb/ingress")
int arrives(struct __sk_buff *skb)
{
	on_request(skb, true);
	return 1;
}

/* In place of arrives, for kernels before 5.1. */
SEC("cgroup_skb/ingress")
int arrives_alone(struct __sk_buff *skb)
{
	on_request(skb, false);
	return 1;
}

SEC("cgroup_skb/egress")
int leaves(struct __sk_buff *skb)
{
	on_response(skb);
	return 1;
}
