//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 */
/* Counts how long threads wait for a processor.
 *
 * The kernel counts the waits of each thread and adds them up. So one program
 * does, where threads are switched, and none where they are woken: it looks at the
 * thread that leaves the processor, for what the kernel has added since it last
 * left one. What is read is thus complete by itself. A switch at which the program
 * did not run takes nothing from the counts: the next of that thread has both
 * waits. And it is the thread that leaves, not the one that comes, because some
 * kernels run no program while certain threads of their own are on the processor:
 * who comes after such a one would not be seen, when it leaves it is. */
#include "runq.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const struct runq_value *bind_value __attribute__((unused));
const struct process_key *bind_key __attribute__((unused));
const enum runq_stat *bind_stat __attribute__((unused));

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sched_info {
	unsigned long pcount;
	unsigned long long run_delay;
};

struct task_struct___runq {
	unsigned int flags;
	int pid;
	int tgid;
	char comm[16];
	__u64 start_boottime;
	struct task_struct___runq *group_leader;
	struct sched_info sched_info;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct___runq *task;
};

#pragma clang attribute pop

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

COUNTERS(RUNQ_STATS)

/* When the walk began: what began later is told from its beginning on. */
__u64 began = 0;

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
	return bpf_map_lookup_elem(&queues, key);
}

/* A thread met for the first time. What it waited before the walk is not told. */
static __noinline struct runq_task *meet(struct task_struct___runq *task)
{
	struct runq_task *t;

	t = bpf_task_storage_get(&runq_tasks, (struct task_struct *)task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!t)
		return 0;
	t->process.start_ns = task->group_leader->start_boottime;
	t->process.tgid = task->tgid;
	if (task->start_boottime < began) {
		t->waits = task->sched_info.pcount;
		t->run_delay = task->sched_info.run_delay;
	}
	return t;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(runq_switch, bool preempt, struct task_struct___runq *prev)
{
	struct process_key key = {};
	struct runq_value *v;
	struct runq_task *t;
	__u64 n, waited;
	__u32 s;

	/* the idle task, and the kernel's own threads */
	if (!prev->pid || prev->flags & PF_KTHREAD || prev->tgid == self_tgid)
		return 0;
	t = bpf_task_storage_get(&runq_tasks, (struct task_struct *)prev, 0, 0);
	if (!t) {
		t = meet(prev);
		if (!t) {
			count(RUNQ_STAT_FULL);
			return 0;
		}
	}
	/* The thread is on this processor until the switch: nobody else changes
	 * what the kernel and this program keep of it. */
	n = prev->sched_info.pcount - t->waits;
	if (!n)
		return 0;
	waited = prev->sched_info.run_delay - t->run_delay;
	t->waits += n;
	t->run_delay += waited;
	key.start_ns = t->process.start_ns;
	key.tgid = t->process.tgid;
	v = bpf_map_lookup_elem(&queues, &key);
	if (!v) {
		v = first(&key, prev);
		if (!v) {
			count_more(RUNQ_STAT_FULL, n);
			return 0;
		}
	}
	__sync_fetch_and_add(&v->waited_ns, waited);
	if (n > 1) {
		waited /= n;
		count_more(RUNQ_STAT_AVERAGED, n);
	}
	s = duration_slot(waited);
	if (s < SLOTS)
		__sync_fetch_and_add(&v->waits[s], n);
	return 0;
}

/* Meets the threads that there are, before the program above is attached. */
SEC("iter/task")
int runq_walk(struct bpf_iter__task *ctx)
{
	struct task_struct___runq *task = ctx->task;

	if (!began)
		began = bpf_ktime_get_boot_ns();
	if (task && !(task->flags & PF_KTHREAD) && task->tgid != self_tgid && task->start_boottime < began)
		meet(task);
	return 0;
}
