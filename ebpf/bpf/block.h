/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of what block.bpf.c counts. */
#pragma once

#include "duration.h"

enum block_operation {
	BLOCK_READ,
	BLOCK_WRITE,
	BLOCK_FLUSH,
	BLOCK_DISCARD,
	BLOCK_WRITE_ZEROES,
	BLOCK_OTHER,
};

struct block_key {
	char disk[32];
	__u8 operation;
	__u8 status; /* of blk_status_t, 0: done */
	__u8 pad[6];
};

struct block_value {
	__u64 bytes;
	__u64 total_ns;
	__u64 queue_ns;
	__u64 total[SLOTS]; /* from the request's making to its end */
	__u64 queue[SLOTS]; /* of that, before the driver had it */
};

/* A request under way. */
struct block_request {
	__u64 issued_ns;
	__u64 bytes; /* of parts that are done */
};

enum block_stat {
	BLOCK_STAT_FULL,     /* requests for which there was no room */
	BLOCK_STAT_UNISSUED, /* requests that ended, but were not seen to begin */
	BLOCK_STATS,
};
