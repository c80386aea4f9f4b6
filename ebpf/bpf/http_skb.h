/* SPDX-License-Identifier: Apache-2.0 */
/* What http_skb.bpf.c keeps of a connection, and how it reads a packet. */
#pragma once

#include "http.h"

#define MAX_CONNS 16384
#define FIRST 16 /* bytes of a segment that are looked at: no message is shorter */
#define PROTOCOL_TCP 6
#define STATE_LISTEN 10

/* Both ends, IPv4 mapped into IPv6, all in network order. */
struct skb_ends {
	__u32 client[4];
	__u32 server[4];
	__u16 client_port;
	__u16 server_port;
};

struct skb_conn {
	__u64 cookie;   /* of the server's socket; 0: it was not there yet */
	__u64 start_ns; /* of the request that waits */
	__u32 request;  /* TCP's number of the last request's first byte */
	__u32 response; /* likewise */
	__u32 skipped;  /* requests that came while one waited */
	__u8 method;
	__u8 waiting;
	__u8 answered;  /* response is known */
	__u8 pad;
};

/* A segment of TCP: where from, where to, and how it begins. */
struct skb_segment {
	__u32 from[4];
	__u32 to[4];
	__u16 from_port;
	__u16 to_port;
	__u32 seq;
	__u64 first[FIRST / 8];
};

struct ip4 {
	__u8 version;
	__u8 tos;
	__u16 length;
	__u16 id;
	__u16 fragment;
	__u8 ttl;
	__u8 protocol;
	__u16 sum;
	__u32 from;
	__u32 to;
};

struct ip6 {
	__u32 version;
	__u16 length;
	__u8 protocol;
	__u8 hops;
	__u32 from[4];
	__u32 to[4];
};

struct tcp_head {
	__u16 from;
	__u16 to;
	__u32 seq;
	__u32 ack;
	__u8 offset;
	__u8 flags;
	__u16 window;
};

/* Reads the addresses; returns where TCP begins, or 0 if it does not. */
static __always_inline __u32 read_addresses(struct __sk_buff *skb, struct skb_segment *s)
{
	union {
		struct ip4 v4;
		struct ip6 v6;
	} ip;
	__u8 option[2];

	if (bpf_skb_load_bytes(skb, 0, &ip.v4, sizeof(ip.v4)))
		return 0;
	if (ip.v4.version >> 4 == 4) {
		if (ip.v4.protocol != PROTOCOL_TCP || ip.v4.fragment & bpf_htons(0x1fff))
			return 0;
		s->from[2] = s->to[2] = bpf_htonl(0xffff);
		s->from[3] = ip.v4.from;
		s->to[3] = ip.v4.to;
		return (ip.v4.version & 15) * 4;
	}
	if (ip.v4.version >> 4 != 6 || bpf_skb_load_bytes(skb, 0, &ip.v6, sizeof(ip.v6)))
		return 0;
	__builtin_memcpy(s->from, ip.v6.from, sizeof(s->from));
	__builtin_memcpy(s->to, ip.v6.to, sizeof(s->to));
	if (ip.v6.protocol == PROTOCOL_TCP)
		return sizeof(ip.v6);
	/* what the kernel glues together beyond 64 kB has its length in an option */
	if (ip.v6.protocol || bpf_skb_load_bytes(skb, sizeof(ip.v6), option, sizeof(option)))
		return 0;
	return option[0] == PROTOCOL_TCP ? sizeof(ip.v6) + 8 + option[1] * 8 : 0;
}

/* Reads how a segment begins; false if no message can begin with it. */
static __always_inline bool read_segment(struct __sk_buff *skb, struct skb_segment *s)
{
	__u32 at = read_addresses(skb, s);
	struct tcp_head tcp;

	if (!at || bpf_skb_load_bytes(skb, at, &tcp, sizeof(tcp)))
		return false;
	at += (tcp.offset >> 4) * 4;
	if (skb->len < at + FIRST || bpf_skb_load_bytes(skb, at, s->first, FIRST))
		return false;
	s->from_port = tcp.from;
	s->to_port = tcp.to;
	s->seq = bpf_ntohl(tcp.seq);
	return true;
}

/* The status that a segment begins with ("HTTP/1.1 200"), or 0. */
static __always_inline __u16 skb_status(struct skb_segment *s)
{
	__u32 a, b, c;

	if ((s->first[0] & LOW(7)) != PROTO || (__u8)s->first[1] != ' ')
		return 0;
	a = (__u8)(s->first[1] >> 8) - '0';
	b = (__u8)(s->first[1] >> 16) - '0';
	c = (__u8)(s->first[1] >> 24) - '0';
	if (a < 1 || a > 9 || b > 9 || c > 9)
		return 0;
	return a * 100 + b * 10 + c;
}
