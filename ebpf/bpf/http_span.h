/* SPDX-License-Identifier: Apache-2.0 */
/* Spans: of a sampled request, the head is kept until its response has ended,
 * and then sent to user space. Part of http_core.h. With spanning 0 the verifier
 * takes all of this out of the programs. */
#pragma once

#define RING spans
#define RING_BYTES (1024 * 1024)
#define RING_STEP (64 * 1024)
#include "ring.h"

#define TARGET 256         /* bytes of the start line that are kept */
#define TRACEPARENT 64     /* room for 55 bytes */
#define RANDOM_BITS 56     /* of a trace id, by W3C's level 2 */

/* A request whose response has ended. */
struct http_span {
	__u64 process_start;
	__u64 start_ns;
	__u64 end_ns;
	__u64 request_bytes;
	__u64 response_bytes;
	__u32 tgid;
	__u32 netns;
	__u32 seq; /* of the request's first byte */
	__u32 local_addr[4];
	__u32 peer_addr[4];
	__u16 local_port;
	__u16 peer_port;
	__u16 status; /* 0: closed without a response */
	__u8 role;
	__u8 method;
	__u16 line;   /* bytes of target that are the start line's */
	__u16 parent; /* bytes of traceparent, 0: there is none */
	__u8 traceparent[TRACEPARENT];
	__u8 target[TARGET]; /* the start line, cut off */
};

/* Set by user space. Spans are made when spanning is not 0, of the requests
 * whose random bits are at least threshold. */
const volatile __u32 spanning = 0;
const volatile __u64 threshold = 0;

const struct http_span *bind_span __attribute__((unused));

/* Sampled requests without a whole response, by head_key. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct http_span);
} heads SEC(".maps");

/* A span that is too large for the stack; one for each direction. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct http_span);
} span_scratch SEC(".maps");

/* Both ends of a connection, and both directions, give the same. */
static __always_inline __u64 mix(__u64 x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ULL;
	x ^= x >> 33;
	return x;
}

static __always_inline __u64 hash_end(const __u32 *addr, __u16 port)
{
	return mix(mix((__u64)addr[0] << 32 | addr[1]) ^ ((__u64)addr[2] << 32 | addr[3]) ^ ((__u64)port << 16));
}

/* Remembers what tells the connection from others. */
static __always_inline void span_conn(struct conn *c, struct sock *sk)
{
	if (!spanning)
		return;
	local_of(sk, c->local_addr);
	c->netns = netns_of(sk);
	c->tuple = hash_end(c->local_addr, c->local_port) + hash_end(c->addr, c->peer_port);
}

/* The key of request n of a connection in heads: an address within its state,
 * which no other connection has. */
static __always_inline __u64 head_key(struct conn *c, __u32 n)
{
	return (__u64)c + n % DEPTH;
}

/* Is there a head already where that of request n would be? */
static __always_inline bool taken(struct conn *c, __u32 n)
{
	return (c->headed >> (n % DEPTH) & 1) || (c->spanned && c->span_no % DEPTH == n % DEPTH);
}

/* Request n becomes that of the response under way. */
static __always_inline void take_head(struct conn *c, __u32 n)
{
	c->spanned = c->headed >> (n % DEPTH) & 1;
	c->span_no = n;
	c->headed &= ~(1 << (n % DEPTH));
}

/* Sends the span of the response under way. */
__noinline int send_span(CONN_ARG, __u64 end_ns)
{
	FIND_CONN;
	struct http_span *s;
	__u64 key;

	if (!c)
		return 0;
	key = head_key(c, c->span_no);
	c->spanned = 0;
	s = bpf_map_lookup_elem(&heads, &key);
	if (!s) {
		count(STAT_SPAN_EVICTED);
		return 0;
	}
	s->process_start = c->process_start;
	s->start_ns = c->start_ns;
	s->end_ns = end_ns > c->start_ns ? end_ns : c->start_ns;
	s->request_bytes = c->request_bytes;
	s->response_bytes = c->response_bytes;
	s->tgid = c->tgid;
	s->status = c->status;
	s->role = c->role;
	s->method = c->method;
	if (emit(s, sizeof(*s)))
		count(STAT_SPAN_FULL);
	bpf_map_delete_elem(&heads, &key);
	return 0;
}

/* Does a header field begin like a traceparent? */
static __always_inline bool begins_parent(struct scratch *b, __u32 line)
{
	return (load(b, line) | 0x2020202020202020ULL) == W('t', 'r', 'a', 'c', 'e', 'p', 'a', 'r');
}

#define EACH(n) ((n) * 0x0101010101010101ULL)

/* Reads 8 lowercase hexadecimal digits, all at once, because the verifier would
 * follow every branch for every digit. *bad is not 0 if there are others. */
static __always_inline __u64 hexadecimal(__u64 w, __u64 *bad)
{
	__u64 letter = w >> 6 & EACH(1), x = (w & EACH(15)) + letter * 9;

	*bad |= (x + EACH('0') + letter * ('a' - '9' - 1)) ^ w;
	*bad |= (x & EACH(0xf0)) | (((x + EACH(6)) >> 4 & EACH(15)) ^ letter);
	x = __builtin_bswap64(x);
	x = (x | x >> 4) & 0x00ff00ff00ff00ffULL;
	x = (x | x >> 8) & 0x0000ffff0000ffffULL;
	return (x | x >> 16) & 0xffffffff;
}

/* Where the value of the traceparent whose line is [pos, lf) begins; 0: it has
 * another form. *r is what the trace id says for sampling. */
static __always_inline __u32 traceparent(struct scratch *b, __u32 pos, __u32 lf, __u64 *r)
{
	__u64 bad = 0, high, low;

	pos += 12;
	if (b->data[pos & 2047] == ' ')
		pos++;
	if (lf < pos + 55)
		return 0;
	high = hexadecimal(load(b, pos + 21), &bad);
	low = hexadecimal(load(b, pos + 27), &bad);
	if (bad || b->data[(pos + 2) & 2047] != '-' || b->data[(pos + 35) & 2047] != '-' || b->data[(pos + 52) & 2047] != '-')
		return 0;
	*r = high << 24 | (low & 0xffffff);
	return pos;
}

/* Where the request's head is known to be, in its connection and in the
 * window. Puts what the window has of it into a span. */
static __always_inline void keep_head(struct conn *c, struct half *h, struct scratch *b, struct http_span *s, __u32 parent)
{
	if (b->start_len) {
		s->line = b->start_len < TARGET ? b->start_len : TARGET;
		bpf_probe_read_kernel(s->target, TARGET, b->data + (b->start_at & 2047));
	}
	if (parent) {
		s->parent = 55;
		bpf_probe_read_kernel(s->traceparent, TRACEPARENT, b->data + (parent & 2047));
	}
	/* for those who look at requests without a response */
	s->process_start = c->process_start;
	s->tgid = c->tgid;
	s->role = c->role;
	s->method = h->method;
	s->start_ns = h->first_ns;
	s->netns = c->netns;
	s->seq = h->seq;
	for (int i = 0; i < 4; i++) {
		s->local_addr[i] = c->local_addr[i];
		s->peer_addr[i] = c->addr[i];
	}
	s->local_port = c->local_port;
	s->peer_port = c->peer_port;
}

/* A window has ended within a request's head. */
__noinline int part_of_head(BOTH_ARGS, __u32 sent)
{
	FIND_BOTH;
	struct scratch *b = get_scratch(sent);
	struct http_span *s;
	__u64 key, r = 0;
	__u32 parent = 0;

	if (!c || !h || !b)
		return 0;
	key = head_key(c, c->pushed - 1);
	if (b->parent_lf)
		parent = traceparent(b, b->parent_at, b->parent_lf, &r);
	if (h->in_part) {
		s = bpf_map_lookup_elem(&heads, &key);
		if (s && parent)
			keep_head(c, h, b, s, parent);
	} else if (b->start_len && !taken(c, c->pushed - 1)) {
		s = bpf_map_lookup_elem(&span_scratch, &sent);
		if (!s)
			return 0;
		s->parent = 0;
		keep_head(c, h, b, s, parent);
		bpf_map_update_elem(&heads, &key, s, BPF_ANY);
		h->in_part = 1;
	}
	if (parent) {
		h->random = r;
		h->traced = 1;
	}
	return 0;
}

/* A request's head has ended: decides whether it becomes a span. */
__noinline int sample(BOTH_ARGS, __u32 sent)
{
	FIND_BOTH;
	struct scratch *b = get_scratch(sent);
	struct http_span *s;
	__u64 key, r = 0;
	__u32 parent = 0, n;
	__u8 part, traced, cut;

	if (!c || !h || !b)
		return 0;
	n = c->pushed - 1;
	key = head_key(c, n);
	part = h->in_part;
	traced = h->traced;
	cut = h->cut;
	if (traced)
		r = h->random;
	h->in_part = 0;
	h->traced = 0;
	h->cut = 0;
	if (cut) {
		count(STAT_SPAN_CUT);
		return 0;
	}
	if (b->parent_lf)
		parent = traceparent(b, b->parent_at, b->parent_lf, &r);
	if (!traced && !parent)
		r = mix(c->tuple ^ h->seq) >> (64 - RANDOM_BITS);
	if (r < threshold)
		return 0;
	if ((!part && !b->start_len) || taken(c, n)) {
		count(STAT_SPAN_PIPELINED);
		return 0;
	}
	if (part) {
		s = bpf_map_lookup_elem(&heads, &key);
		if (!s) {
			count(STAT_SPAN_EVICTED);
			return 0;
		}
		keep_head(c, h, b, s, parent);
	} else {
		s = bpf_map_lookup_elem(&span_scratch, &sent);
		if (!s)
			return 0;
		s->parent = 0;
		keep_head(c, h, b, s, parent);
		if (bpf_map_update_elem(&heads, &key, s, BPF_ANY)) {
			count(STAT_SPAN_EVICTED);
			return 0;
		}
	}
	if (c->adopted == ADOPTED_ENDED) {
		c->span_no = n;
		send_span(CONN(c), c->end_ns);
	} else if (c->adopted == ADOPTED_ACTIVE && c->active) {
		c->span_no = n;
		c->spanned = 1;
	} else if (c->adopted == ADOPTED_NOT) {
		c->headed |= 1 << (n % DEPTH);
	}
	return 0;
}
