/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of what runq.bpf.c counts. */
#pragma once

#define MIN_EXP 10 /* from 1 us on */
#include "duration.h"

struct runq_value {
	__u64 waited_ns;
	__u8 comm[16];
	__u64 waits[SLOTS];
};

/* What is kept of a thread. */
struct runq_task {
	struct process_key process;
	__u64 waits; /* so many are told, and their sum: */
	__u64 run_delay;
};

enum runq_stat {
	RUNQ_STAT_FULL, /* waits for whose process there was no room */
	RUNQ_STAT_AVERAGED, /* waits of which only the sum is known */
	RUNQ_STATS,
};
