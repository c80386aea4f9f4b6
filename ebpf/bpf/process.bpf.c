//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 */
/* Tells of processes that begin and end.
 *
 * A process may be gone before anybody has looked at it, so all that it takes to
 * name it is told with its exec: executable, control groups, arguments and
 * environment. An exec takes half a millisecond, telling of it a few hundredths. */
#define RING_BYTES (1024 * 1024)
#include "process.h"
#include "ring.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const struct process_event *bind_event __attribute__((unused));
const struct process_key *bind_key __attribute__((unused));
const enum process_kind *bind_kind __attribute__((unused));
const enum process_stat *bind_stat __attribute__((unused));

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct qstr___process {
	const unsigned char *name;
};

struct dentry___process {
	struct qstr___process d_name;
};

struct path___process {
	struct dentry___process *dentry;
};

struct file___process {
	struct path___process f_path;
};

struct linux_binprm {
	struct file___process *file;
};

struct mm_struct {
	unsigned long arg_start;
	unsigned long arg_end;
	unsigned long env_start;
	unsigned long env_end;
};

struct kernfs_node {
	struct kernfs_node *parent;
	const char *name;
};

struct kernfs_node___rcu {
	struct kernfs_node *__parent;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct css_set {
	struct cgroup_subsys_state *subsys[4];
	struct cgroup *dfl_cgrp;
};

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live;
	int group_exit_code;
	unsigned int flags;
};

struct task_struct___process {
	unsigned int flags;
	int pid;
	int tgid;
	int exit_code;
	char comm[16];
	__u64 start_boottime;
	struct task_struct___process *group_leader;
	struct signal_struct *signal;
	struct css_set *cgroups;
	struct mm_struct *mm;
};

enum cgroup_subsys_id {
	memory_cgrp_id = 4,
};

#pragma clang attribute pop

#define SIGNAL_GROUP_EXIT 0x4

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct process_event);
} scratch SEC(".maps");

COUNTERS(PROCESS_STATS)

/* Processes whose end has been told, or that they are killed for want of memory:
 * of threads that end at once each may find itself the last. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct process_key);
	__type(value, __u8);
} ended SEC(".maps");

static __always_inline struct process_event *new_event(struct task_struct___process *task, __u8 kind)
{
	struct process_event *e;
	__u32 zero = 0;

	e = bpf_map_lookup_elem(&scratch, &zero);
	if (!e)
		return 0;
	e->start_ns = task->group_leader->start_boottime;
	e->tgid = task->tgid;
	e->parent_start_ns = 0;
	e->parent = 0;
	e->lifetime_ns = 0;
	e->code = 0;
	e->kind = kind;
	bpf_probe_read_kernel(e->comm, sizeof(e->comm), task->comm);
	return e;
}

static __always_inline void tell(struct process_event *e, __u64 size)
{
	if (emit(e, size))
		count(PROCESS_STAT_DROPPED);
}

struct climb {
	__u64 node; /* struct kernfs_node * */
	__u32 at;
	__u32 hierarchy;
};

/* Writes one name of a control group's path and goes one level up; returns 1 at
 * the root. Static: kernels before 5.12 know no pointers as arguments of others. */
static __noinline int name_group(struct climb *c)
{
	struct kernfs_node *parent, *node;
	struct process_event *e;
	__u32 zero = 0, at, h;
	const char *name;
	long n;

	e = bpf_map_lookup_elem(&scratch, &zero);
	if (!e || !c)
		return 1;
	node = (void *)c->node;
	at = c->at;
	h = c->hierarchy;
	if (bpf_core_field_exists(struct kernfs_node___rcu, __parent))
		parent = BPF_CORE_READ((struct kernfs_node___rcu *)node, __parent);
	else
		parent = BPF_CORE_READ(node, parent);
	if (!parent || at > PROCESS_GROUP - 128)
		return 1; /* the root has no name */
	name = BPF_CORE_READ(node, name);
	asm volatile("%0 &= 511" : "+r"(at));
	asm volatile("%0 &= 1" : "+r"(h));
	/* what runs over the end of the last row stays in the event */
	n = bpf_probe_read_kernel_str(&e->groups[h][at], 128, name);
	if (n > 0)
		c->at = at + n;
	c->node = (__u64)parent;
	return 0;
}

static __always_inline void name_path(struct climb *c)
{
	if (!c->node)
		return;
	for (int i = 0; i < PROCESS_LEVELS; i++) {
		if (name_group(c))
			break;
	}
}

static __always_inline void name_groups(struct process_event *e, struct task_struct___process *task)
{
	struct css_set *set = task->cgroups;
	struct climb c = {};
	int memory = 4;

	e->groups[0][0] = 0;
	e->groups[1][0] = 0;
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		memory = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);
	c.node = (__u64)BPF_CORE_READ(set, dfl_cgrp, kn);
	name_path(&c);
	e->groups[0][c.at & (PROCESS_GROUP - 1)] = 0;
	c.at = 0;
	c.hierarchy = 1;
	{
		struct cgroup_subsys_state *css = 0;

		bpf_probe_read_kernel(&css, sizeof(css), (void *)set + bpf_core_field_offset(struct css_set, subsys) + memory * sizeof(css));
		c.node = (__u64)BPF_CORE_READ(css, cgroup, kn);
	}
	name_path(&c);
	e->groups[1][c.at & (PROCESS_GROUP - 1)] = 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct___process *task, int old_pid, struct linux_binprm *program)
{
	struct process_event *e = new_event(task, PROCESS_EXEC);
	struct mm_struct *mm = task->mm;
	unsigned long from, to;
	__u64 n;

	if (!e || e->tgid == self_tgid)
		return 0;
	name_groups(e, task);
	e->executable[0] = 0;
	bpf_probe_read_kernel_str(e->executable, sizeof(e->executable), BPF_CORE_READ(program, file, f_path.dentry, d_name.name));
	e->arguments = 0;
	e->whole = 0;
	n = 0;
	if (mm) {
		from = mm->arg_start;
		to = mm->env_end;
		e->arguments = mm->arg_end - from;
		e->whole = to - from;
		n = to - from;
		if (n > PROCESS_TEXT)
			n = PROCESS_TEXT;
		asm volatile("if %0 <= 4096 goto +1; %0 = 4096" : "+r"(n));
		if (bpf_probe_read_user(e->text, n, (void *)from))
			n = 0;
	}
	e->length = n;
	asm volatile("if %0 <= 4096 goto +1; %0 = 4096" : "+r"(n));
	tell(e, __builtin_offsetof(struct process_event, text) + n);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(process_fork, struct task_struct___process *parent, struct task_struct___process *child)
{
	struct process_event *e;

	if (child->pid != child->tgid || child->flags & PF_KTHREAD)
		return 0; /* a thread, of the process or of the kernel */
	e = new_event(child, PROCESS_FORK);
	if (!e)
		return 0;
	e->parent = parent->tgid;
	e->parent_start_ns = parent->group_leader->start_boottime;
	tell(e, __builtin_offsetof(struct process_event, groups));
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit, struct task_struct___process *task)
{
	struct signal_struct *signal = task->signal;
	struct process_key key = {};
	struct process_event *e;
	__u64 now;
	__u8 one = 1;

	if (signal->live.counter || task->flags & PF_KTHREAD)
		return 0; /* other threads live */
	key.start_ns = task->group_leader->start_boottime;
	key.tgid = task->tgid;
	if (bpf_map_update_elem(&ended, &key, &one, BPF_NOEXIST))
		return 0;
	e = new_event(task, PROCESS_EXIT);
	if (!e)
		return 0;
	/* the main thread's name is the process's */
	bpf_probe_read_kernel(e->comm, sizeof(e->comm), task->group_leader->comm);
	e->code = signal->flags & SIGNAL_GROUP_EXIT ? signal->group_exit_code : task->group_leader->exit_code;
	now = bpf_ktime_get_boot_ns();
	e->lifetime_ns = now > e->start_ns ? now - e->start_ns : 0;
	tell(e, __builtin_offsetof(struct process_event, groups));
	return 0;
}

SEC("tp_btf/mark_victim")
int BPF_PROG(process_oom, struct task_struct___process *task)
{
	struct process_key key = { .pad = 1 }; /* not that of its end */
	struct process_event *e;
	__u8 one = 1;

	/* told of each thread that wants memory while the process dies */
	key.start_ns = task->group_leader->start_boottime;
	key.tgid = task->tgid;
	if (bpf_map_update_elem(&ended, &key, &one, BPF_NOEXIST))
		return 0;
	e = new_event(task, PROCESS_OOM);
	if (e)
		tell(e, __builtin_offsetof(struct process_event, groups));
	return 0;
}

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct___process *task;
} __attribute__((preserve_access_index));

/* Tells which processes there are. */
SEC("iter/task")
int process_walk(struct bpf_iter__task *ctx)
{
	struct task_struct___process *task = ctx->task;
	struct process_key key = {};

	if (!task || task->pid != task->tgid)
		return 0;
	key.start_ns = task->start_boottime;
	key.tgid = task->tgid;
	bpf_seq_write(ctx->meta->seq, &key, sizeof(key));
	return 0;
}
