//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 */
/* Counts how long threads wait for a processor.
 *
 * The kernel notes when it puts a thread into a queue, be it woken or preempted,
 * and the clock of the queue; when it takes the thread out both are there to be
 * read. So one program does, where threads are switched, and none where they are
 * woken. What a thread waited in another processor's queue, before it was moved,
 * is in the kernel's sum. */
#include "runq.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const struct runq_value *bind_value __attribute__((unused));
const struct process_key *bind_key __attribute__((unused));
const enum runq_stat *bind_stat __attribute__((unused));

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct rq {
	__u64 clock;
};

struct cfs_rq {
	struct rq *rq;
};

struct sched_entity {
	struct cfs_rq *cfs_rq;
};

struct sched_info {
	unsigned long long run_delay;
	unsigned long long last_queued;
};

struct task_struct___runq {
	unsigned int flags;
	int pid;
	int tgid;
	char comm[16];
	__u64 start_boottime;
	struct task_struct___runq *group_leader;
	struct sched_entity se;
	struct sched_info sched_info;
};

#pragma clang attribute pop

#define PF_KTHREAD 0x00200000

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct process_key);
	__type(value, struct runq_value);
} queues SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct runq_task);
} runq_tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct runq_value);
} zero_value SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, RUNQ_STATS);
	__type(key, __u32);
	__type(value, __u64);
} stats SEC(".maps");

static __always_inline void count(__u32 stat)
{
	__u64 *n = bpf_map_lookup_elem(&stats, &stat);

	if (n)
		*n += 1;
}

/* A process's first wait. */
static __noinline struct runq_value *first(struct process_key *key, struct task_struct___runq *task)
{
	struct runq_value *v;
	__u32 zero = 0;

	v = bpf_map_lookup_elem(&zero_value, &zero);
	if (!v)
		return 0;
	bpf_probe_read_kernel(v->comm, sizeof(v->comm), task->comm);
	bpf_map_update_elem(&queues, key, v, BPF_NOEXIST);
	v = bpf_map_lookup_elem(&queues, key);
	if (!v)
		count(RUNQ_STAT_FULL);
	return v;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(runq_switch, bool preempt, struct task_struct___runq *prev, struct task_struct___runq *next)
{
	struct process_key key = {};
	struct runq_value *v;
	struct runq_task *t;
	__u64 queued, waited, told;
	__u32 s;

	/* the idle task, and the kernel's own threads */
	if (!next->pid || next->flags & PF_KTHREAD || next->tgid == self_tgid)
		return 0;
	queued = next->sched_info.last_queued;
	if (!queued)
		return 0;
	waited = next->se.cfs_rq->rq->clock - queued;
	if ((__s64)waited < 0)
		waited = 0;
	told = next->sched_info.run_delay;
	t = bpf_task_storage_get(&runq_tasks, (struct task_struct *)next, 0, 0);
	if (!t) {
		t = bpf_task_storage_get(&runq_tasks, (struct task_struct *)next, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (!t) {
			count(RUNQ_STAT_FULL);
			return 0;
		}
		t->process.start_ns = next->group_leader->start_boottime;
		t->process.tgid = next->tgid;
		t->run_delay = told;
	}
	/* the kernel adds the same when it has switched */
	told += waited;
	waited = told - t->run_delay;
	t->run_delay = told;
	key.start_ns = t->process.start_ns;
	key.tgid = t->process.tgid;
	v = bpf_map_lookup_elem(&queues, &key);
	if (!v) {
		v = first(&key, next);
		if (!v)
			return 0;
	}
	__sync_fetch_and_add(&v->waited_ns, waited);
	s = duration_slot(waited);
	if (s < SLOTS)
		__sync_fetch_and_add(&v->waits[s], 1);
	return 0;
}
