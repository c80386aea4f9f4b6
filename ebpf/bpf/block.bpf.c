//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 */
/* Counts requests to block devices, where drivers are given them and where they
 * end. A request's making is in the request itself. */
#include "block.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const struct block_key *bind_key __attribute__((unused));
const struct block_value *bind_value __attribute__((unused));
const enum block_stat *bind_stat __attribute__((unused));
const enum block_operation *bind_operation __attribute__((unused));

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct gendisk {
	char disk_name[32];
};

struct request_queue {
	struct gendisk *disk;
};

struct request {
	struct request_queue *q;
	unsigned int cmd_flags;
	unsigned int __data_len;
	__u64 start_time_ns;
};

/* before 5.16 */
struct request___disk {
	struct gendisk *rq_disk;
};

#pragma clang attribute pop

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* the request's address */
	__type(value, struct block_request);
} requests SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct block_key);
	__type(value, struct block_value);
} blocks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct block_value);
} zero_value SEC(".maps");

COUNTERS(BLOCK_STATS)

static __always_inline __u8 operation(struct request *rq)
{
	switch (rq->cmd_flags & 0xff) {
	case 0:
		return BLOCK_READ;
	case 1:
	case 7: /* zone append */
		return BLOCK_WRITE;
	case 2:
		return BLOCK_FLUSH;
	case 3:
	case 5: /* secure erase */
		return BLOCK_DISCARD;
	case 9:
		return BLOCK_WRITE_ZEROES;
	}
	return BLOCK_OTHER;
}

/* The driver is given a request. One that is given again, after the device was
 * busy, waits on. */
SEC("tp_btf/block_rq_issue")
int BPF_PROG(block_issue, struct request *rq)
{
	struct block_request r = { .issued_ns = bpf_ktime_get_ns() };
	__u64 id = (__u64)rq;

	if (bpf_map_update_elem(&requests, &id, &r, BPF_ANY))
		count(BLOCK_STAT_FULL);
	return 0;
}

/* Some bytes of a request, or all, are done. */
SEC("tp_btf/block_rq_complete")
int BPF_PROG(block_complete, struct request *rq, __u8 status, unsigned int bytes)
{
	__u64 id = (__u64)rq, now, start, issued, done, queued, whole;
	struct block_key key = {};
	struct block_request *r;
	struct block_value *v;
	struct gendisk *disk;
	__u32 zero = 0, s;

	r = bpf_map_lookup_elem(&requests, &id);
	if (!r) {
		/* Without data it is an fsync's, whose flush and data were requests of
		 * their own. */
		if (bytes)
			count(BLOCK_STAT_UNISSUED);
		return 0;
	}
	if (!status && bytes < rq->__data_len) {
		r->bytes += bytes;
		return 0;
	}
	now = bpf_ktime_get_ns();
	issued = r->issued_ns;
	done = status ? r->bytes : r->bytes + rq->__data_len;
	bpf_map_delete_elem(&requests, &id);
	start = rq->start_time_ns;
	if (!start || start > issued)
		start = issued;
	if (bpf_core_field_exists(struct request_queue, disk))
		disk = rq->q->disk;
	else
		disk = ((struct request___disk *)rq)->rq_disk;
	if (disk)
		bpf_probe_read_kernel_str(key.disk, sizeof(key.disk), disk->disk_name);
	key.operation = operation(rq);
	key.status = status;
	v = bpf_map_lookup_elem(&blocks, &key);
	if (!v) {
		v = bpf_map_lookup_elem(&zero_value, &zero);
		if (!v)
			return 0;
		bpf_map_update_elem(&blocks, &key, v, BPF_NOEXIST);
		v = bpf_map_lookup_elem(&blocks, &key);
		if (!v) {
			count(BLOCK_STAT_FULL);
			return 0;
		}
	}
	if (key.operation != BLOCK_FLUSH)
		__sync_fetch_and_add(&v->bytes, done);
	queued = issued - start;
	whole = now > start ? now - start : 0;
	__sync_fetch_and_add(&v->total_ns, whole);
	__sync_fetch_and_add(&v->queue_ns, queued);
	s = duration_slot(whole);
	if (s < SLOTS)
		__sync_fetch_and_add(&v->total[s], 1);
	s = duration_slot(queued);
	if (s < SLOTS)
		__sync_fetch_and_add(&v->queue[s], 1);
	return 0;
}
