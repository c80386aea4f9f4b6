//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 */
/* Samples the stacks of what runs, on every processor at a fixed rate.
 *
 * A stack is known by a hash of 64 bits of its addresses, and kept once, so that
 * a sample that is like an older one costs a look-up and an addition. Maps of the
 * type STACK_TRACE would be shorter to write, but drop a stack when another one
 * falls into its slot, which happens long before they are full.
 *
 * There are two sets of maps. User space turns samples to the other set, waits
 * until no program is under way, and then reads and empties the first: nothing is
 * counted twice, and no count is lost between reading and deleting. All maps are
 * allocated beforehand, since a hardware event would come in an NMI. */
#include "profile.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const struct process *bind_process __attribute__((unused));
const enum profile_stat *bind_stat __attribute__((unused));

struct profile_counts {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct profile_key);
	__type(value, __u64);
};

struct profile_stacks {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct profile_stack);
};

struct profile_counts counts_even SEC(".maps"), counts_odd SEC(".maps");
struct profile_stacks stacks_even SEC(".maps"), stacks_odd SEC(".maps");

/* Which set samples go to: 0 even, 1 odd. */
volatile __u32 active = 0;

/* Putting a map in here has the kernel wait for all programs under way; the map
 * itself is not used. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_ARRAY);
		__uint(max_entries, 1);
		__type(key, __u32);
		__type(value, __u32);
	});
} gate SEC(".maps");

/* Where a stack is taken to; programs of a processor do not interrupt each
 * other. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct profile_stack);
} scratch SEC(".maps");

COUNTERS(PROFILE_STATS)

/* Keeps the stack on one side and gives its number. */
static __always_inline __u64 take(void *ctx, void *stacks, struct profile_stack *s, __u64 flags)
{
	__u64 id = 0xcbf29ce484222325ULL;
	__u32 depth, i;
	long size;

	size = bpf_get_stack(ctx, s->at, sizeof(s->at), flags);
	if (size <= 0)
		return PROFILE_NO_STACK;
	depth = (__u32)size / sizeof(__u64);
	if (depth >= PROFILE_DEPTH) {
		depth = PROFILE_DEPTH;
		count(PROFILE_STAT_DEEP);
	}
	s->depth = depth;
	for (i = 0; i < PROFILE_DEPTH; i++) {
		if (i >= depth)
			break;
		id = (id ^ s->at[i]) * 0x9e3779b97f4a7c15ULL;
		id ^= id >> 29;
	}
	if (id <= PROFILE_LOST_STACK)
		id += 2;
	if (!bpf_map_lookup_elem(stacks, &id) && bpf_map_update_elem(stacks, &id, s, BPF_NOEXIST) == -7 /* E2BIG */) {
		count(PROFILE_STAT_STACKS);
		return PROFILE_LOST_STACK;
	}
	return id;
}

static __always_inline int sample(void *ctx, void *counts, void *stacks)
{
	/* without a type, as kernels before 5.11 have it */
	struct task_struct *task = (void *)bpf_get_current_task();
	struct profile_key key = {};
	struct profile_stack *s;
	__u64 one = 1, *n;
	__u32 zero = 0;

	key.tgid = bpf_get_current_pid_tgid() >> 32;
	if (!key.tgid || key.tgid == self_tgid)
		return 0;
	s = bpf_map_lookup_elem(&scratch, &zero);
	if (!s)
		return 0;
	key.start_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	if (BPF_CORE_READ(task, flags) & PF_KTHREAD) {
		key.kthread = 1;
		bpf_get_current_comm(key.comm, sizeof(key.comm));
	} else {
		announce(key.start_ns, key.tgid);
		key.user = take(ctx, stacks, s, BPF_F_USER_STACK);
	}
	key.kernel = take(ctx, stacks, s, 0);
	n = bpf_map_lookup_elem(counts, &key);
	if (n) {
		__sync_fetch_and_add(n, 1);
		return 0;
	}
	if (!bpf_map_update_elem(counts, &key, &one, BPF_NOEXIST))
		return 0;
	/* another processor was faster, or the map is full */
	n = bpf_map_lookup_elem(counts, &key);
	if (n)
		__sync_fetch_and_add(n, 1);
	else
		count(PROFILE_STAT_FULL);
	return 0;
}

SEC("perf_event")
int profile(void *ctx)
{
	if (active)
		return sample(ctx, &counts_odd, &stacks_odd);
	return sample(ctx, &counts_even, &stacks_even);
}
