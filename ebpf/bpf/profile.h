/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of what profile.bpf.c counts. */
#pragma once

#include "kernel.h"

#define PROFILE_DEPTH 127 /* the kernel's default for sysctl perf_event_max_stack */

/* Instead of the number of a stack. */
#define PROFILE_NO_STACK 0 /* there is none on this side */
#define PROFILE_LOST_STACK 1 /* its map was full */

struct profile_key {
	__u64 start_ns;
	__u64 user; /* numbers of stacks */
	__u64 kernel;
	__u32 tgid;
	__u32 kthread; /* 1: a thread of the kernel */
	__u8 comm[16]; /* of a thread of the kernel, which has no other name */
};

struct profile_stack {
	__u64 depth;
	__u64 at[PROFILE_DEPTH]; /* the innermost first */
};

enum profile_stat {
	PROFILE_STAT_FULL,    /* samples not counted: the map was full */
	PROFILE_STAT_STACKS,  /* samples whose stack found no room; they are counted */
	PROFILE_STAT_DEEP,    /* stacks that are deeper than PROFILE_DEPTH */
	PROFILE_STATS,
};
