/* SPDX-License-Identifier: Apache-2.0 */
/* How programs read sockets, and keep something of them. With UNTYPED defined,
 * for kprobes, pointers have no types: what they point to is copied, and what is
 * kept is found by the socket's address, the least recently used giving way. */
#pragma once

#include "kernel.h"

#ifdef UNTYPED
#define GET(p, ...) BPF_CORE_READ(p, __VA_ARGS__)
#define KEPT_SOCKETS 16384

#define SOCKET_STORAGE(name, kept)                      \
	struct {                                        \
		__uint(type, BPF_MAP_TYPE_LRU_HASH);    \
		__uint(max_entries, KEPT_SOCKETS);      \
		__type(key, __u64);                     \
		__type(value, kept);                    \
	} name SEC(".maps");                            \
	struct {                                        \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);\
		__uint(max_entries, 1);                 \
		__type(key, __u32);                     \
		__type(value, kept);                    \
	} name##_zero SEC(".maps");                     \
	static __always_inline kept *name##_of(struct sock *sk, bool create) \
	{                                               \
		__u64 at = (__u64)sk;                   \
		kept *v = bpf_map_lookup_elem(&name, &at); \
		__u32 zero = 0;                         \
                                                        \
		if (v || !create)                       \
			return v;                       \
		v = bpf_map_lookup_elem(&name##_zero, &zero); \
		if (!v)                                 \
			return 0;                       \
		bpf_map_update_elem(&name, &at, v, BPF_NOEXIST); \
		return bpf_map_lookup_elem(&name, &at); \
	}                                               \
	static __always_inline void name##_forget(struct sock *sk) \
	{                                               \
		__u64 at = (__u64)sk;                   \
                                                        \
		bpf_map_delete_elem(&name, &at);        \
	}
#else
#define GET(p, field) ((p)->field)

#define SOCKET_STORAGE(name, kept)                      \
	struct {                                        \
		__uint(type, BPF_MAP_TYPE_SK_STORAGE);  \
		__uint(map_flags, BPF_F_NO_PREALLOC);   \
		__type(key, int);                       \
		__type(value, kept);                    \
	} name SEC(".maps");                            \
	static __always_inline kept *name##_of(struct sock *sk, bool create) \
	{                                               \
		return bpf_sk_storage_get(&name, sk, 0, create ? BPF_SK_STORAGE_GET_F_CREATE : 0); \
	}                                               \
	static __always_inline void name##_forget(struct sock *sk) \
	{                                               \
	}
#endif

static __always_inline struct tcp_sock *tcp_of(struct sock *sk)
{
#ifdef UNTYPED
	return (void *)sk;
#else
	return bpf_skc_to_tcp_sock(sk);
#endif
}

/* Has the socket's state become one that only a new connection has? What is kept by
 * its address is another's then: of one that was read after its end. */
static __always_inline bool begins(int state)
{
#ifdef UNTYPED
	return state == SYN_SENT || state == SYN_RECV;
#else
	return false;
#endif
}

/* A number that no other socket has while this one lives; in UNTYPED programs
 * the next at its address may have it. */
static __always_inline __u64 number_of(struct sock *sk)
{
#ifdef UNTYPED
	return (__u64)sk;
#else
	return bpf_get_socket_cookie(sk);
#endif
}

/* As peer_address and local_address. */
static __always_inline void peer_of(struct sock *sk, __u32 addr[4])
{
#ifdef UNTYPED
	if (GET(sk, __sk_common.skc_family) == AF_INET6) {
		struct in6_addr a = GET(sk, __sk_common.skc_v6_daddr);

		__builtin_memcpy(addr, &a, 16);
		return;
	}
	addr[0] = 0;
	addr[1] = 0;
	addr[2] = bpf_htonl(0xffff);
	addr[3] = GET(sk, __sk_common.skc_daddr);
#else
	peer_address(sk, addr);
#endif
}

static __always_inline void local_of(struct sock *sk, __u32 addr[4])
{
#ifdef UNTYPED
	if (GET(sk, __sk_common.skc_family) == AF_INET6) {
		struct in6_addr a = GET(sk, __sk_common.skc_v6_rcv_saddr);

		__builtin_memcpy(addr, &a, 16);
		return;
	}
	addr[0] = 0;
	addr[1] = 0;
	addr[2] = bpf_htonl(0xffff);
	addr[3] = GET(sk, __sk_common.skc_rcv_saddr);
#else
	local_address(sk, addr);
#endif
}

/* The network namespace it is in. */
static __always_inline __u32 netns_of(struct sock *sk)
{
	struct net *net = GET(sk, __sk_common.skc_net.net);

	return GET(net, ns.inum);
}
