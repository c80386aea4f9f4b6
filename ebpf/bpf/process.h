/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of what process.bpf.c tells. */
#pragma once

#include "kernel.h"

#define PROCESS_TEXT 4096  /* bytes of arguments and environment */
#define PROCESS_GROUP 512  /* bytes of a control group's path */
#define PROCESS_LEVELS 10  /* names of it */

enum process_kind { PROCESS_FORK, PROCESS_EXEC, PROCESS_EXIT, PROCESS_OOM };

/* Up to groups for all kinds; the rest for PROCESS_EXEC. */
struct process_event {
	__u64 start_ns;
	__u64 parent_start_ns; /* of PROCESS_FORK */
	__u64 lifetime_ns;     /* of PROCESS_EXIT */
	__u32 tgid;
	__u32 parent;
	__u32 code; /* of PROCESS_EXIT, as wait() tells it */
	__u8 kind;
	__u8 pad[3];
	__u8 comm[16];
	/* names of control groups, from the innermost out, each with a zero */
	__u8 groups[2][PROCESS_GROUP]; /* of the unified hierarchy, of memory's */
	__u8 executable[64];
	__u32 arguments; /* bytes of text that are arguments */
	__u32 length;    /* bytes of text */
	__u32 whole;     /* bytes that there are */
	__u32 pad2;
	__u8 text[PROCESS_TEXT]; /* arguments, environment, each with a zero */
};

enum process_stat {
	PROCESS_STAT_DROPPED, /* events not told: the ring buffer was full */
	PROCESS_STATS,
};
