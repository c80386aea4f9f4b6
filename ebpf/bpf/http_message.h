/* SPDX-License-Identifier: Apache-2.0 */
/* What lines mean: where messages begin and end, and which response belongs to
 * which request. Part of http_core.h, which finds the lines. */
#pragma once

static __always_inline void reset_half(struct half *h, __u8 state)
{
	h->message = 0;
	h->state = state;
	h->left = 0;
	h->body = 0;
	if (spanning) {
		h->in_part = 0;
		h->traced = 0;
		h->cut = 0;
	}
}

/* A request's start line has been seen. */
static __always_inline int push(struct conn *c, struct half *h)
{
	__u32 at;

	if (!c || !h)
		return 0;
	at = c->pushed;
	if (spanning)
		c->adopted = ADOPTED_NOT;
	if (c->orphan) {
		/* its response came first: another thread read it before this
		 * one returned from the kernel */
		c->orphan = 0;
		c->method = h->method;
		c->start_ns = h->first_ns;
		if (!c->active || h->method == HEAD) {
			__u64 end = c->active ? bpf_ktime_get_ns() : c->end_ns;

			c->active = 0;
			c->end_ns = end;
			record(CONN(c), end);
			if (spanning)
				c->adopted = ADOPTED_ENDED;
		} else if (spanning) {
			c->adopted = ADOPTED_ACTIVE;
		}
		return 0;
	}
	if (at - c->popped >= DEPTH)
		count(STAT_DEEP);
	else {
		c->queue[at % DEPTH] = h->first_ns << 4 | h->method;
		c->sizes[at % DEPTH] = 0;
	}
	c->pushed = at + 1;
	return 0;
}

/* A final response has begun: pairs it with the oldest request. */
static __always_inline int pop(struct conn *c, struct scratch *b, __u16 status)
{
	if (!c)
		return 0;
	c->status = status;
	c->active = 1;
	c->orphan = 0;
	c->request_bytes = 0;
	c->response_bytes = 0;
	if (c->pushed != c->popped) {
		__u32 at = c->popped;
		/* beyond DEPTH an older request's entry stands in */
		__u64 q = c->queue[at % DEPTH];

		c->method = q & 15;
		c->start_ns = q >> 4;
		c->request_bytes = c->sizes[at % DEPTH];
		c->popped = at + 1;
		if (spanning)
			take_head(c, at);
		return 0;
	}
	c->method = OTHER;
	c->start_ns = now_of(b);
	if (spanning)
		c->spanned = 0;
	if (c->role == ROLE_CLIENT)
		c->orphan = 1;
	else
		count(STAT_UNMATCHED);
	return 0;
}

/* Takes the role that a message in this direction means; false if the
 * connection has the other one. */
static __always_inline bool take_role(struct conn *c, __u8 role)
{
	if (c->role == ROLE_UNKNOWN)
		c->role = role;
	return c->role == role;
}

/* Notes whose connection it is; false when it is the probe's own. */
static __always_inline int owner(struct conn *c)
{
	__u64 start = process_start();
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;

	if (!c)
		return 0;
	if (c->tgid == tgid && c->process_start == start)
		return 1;
	if (tgid == self_tgid)
		return 0;
	c->tgid = tgid;
	c->process_start = start;
	announce(start, tgid);
	return 1;
}

/* Reads a start line at pos. lf is where it ends, 0 when it is longer than
 * the window. False: this is no message. */
ONCE int start_line(BOTH_ARGS, __u32 sent, __u32 pos, __u32 lf)
{
	FIND_BOTH;
	struct scratch *b = get_scratch(sent);
	bool settled;
	__u64 w, tail = 0;

	if (!b || !c || !h)
		return 0;
	w = load(b, pos);
	if ((w & LOW(7)) == PROTO) {
		__u64 d = load(b, pos + 9);
		__u32 a = (d & 0xff) - '0', e = ((d >> 8) & 0xff) - '0', f = ((d >> 16) & 0xff) - '0';

		if (a > 9 || e > 9 || f > 9)
			return 0;
		settled = c->role != ROLE_UNKNOWN;
		if (!take_role(c, sent ? ROLE_SERVER : ROLE_CLIENT))
			return 0;
		if (!settled && (sent || !b->virgin)) {
			/* older than the probe: its request was not seen */
			count(STAT_UNMATCHED);
			return 0;
		}
		h->status = a * 100 + e * 10 + f;
		h->method = 0;
		if (h->status >= 200 || h->status == 101) {
			pop(c, b, h->status);
		}
		return 1;
	}
	h->method = method_of(w);
	if (lf) {
		__u64 t = load(b, lf - 9), u = load(b, lf - 8);

		tail = (t & LOW(7)) == PROTO || (u & LOW(7)) == PROTO;
		if (!tail) {
			if ((t & LOW(7)) == PROTO2 && c->role == ROLE_UNKNOWN) {
				count(STAT_HTTP2);
				c->ignored = 1;
			}
			return 0;
		}
	} else if (h->method == OTHER) {
		return 0;
	}
	if (!take_role(c, sent ? ROLE_CLIENT : ROLE_SERVER))
		return 0;
	h->status = 0;
	owner(c);
	if (!h->first_ns)
		h->first_ns = now_of(b);
	if (spanning) {
		h->seq = b->seq + (pos - CARRY);
		b->start_at = pos;
		b->start_len = lf - pos;
	}
	push(c, h);
	return 1;
}

/* Looks for the two header fields that say how long the body is, and for the
 * trace that a request belongs to. */
__noinline int header_line(HALF_ARG, __u32 sent, __u32 pos, __u32 lf)
{
	FIND_HALF;
	struct scratch *b = get_scratch(sent);
	__u64 w, n = 0;
	__u32 i;

	if (!b || !h)
		return 0;
	w = load(b, pos) | 0x2020202020202020ULL;
	if (w == W('c', 'o', 'n', 't', 'e', 'n', 't', '-')) {
		w = load(b, pos + 8) | 0x2020202020202020ULL;
		if ((w & LOW(7)) != W('l', 'e', 'n', 'g', 't', 'h', ':', 0))
			return 0;
		for (i = 15; i < 36; i++) {
			__u8 ch = b->data[(pos + i) & 2047];

			if (pos + i >= lf)
				break;
			if (ch < '0' || ch > '9')
				continue;
			n = n * 10 + (ch - '0');
		}
		h->left = n;
		h->has_length = 1;
		return 0;
	}
	if (spanning && w == W('t', 'r', 'a', 'c', 'e', 'p', 'a', 'r')) {
		w = load(b, pos + 8) | 0x2020202020202020ULL;
		if ((w & LOW(4)) == W('e', 'n', 't', ':', 0, 0, 0, 0)) {
			b->parent_at = pos;
			b->parent_lf = lf;
		}
		return 0;
	}
	if (w == W('t', 'r', 'a', 'n', 's', 'f', 'e', 'r')) {
		w = load(b, pos + 8) | 0x2020202020202020ULL;
		/* '-' has the bit set already */
		if (w == W('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n'))
			h->chunked = 1;
	}
	return 0;
}

static __always_inline int message_end(struct conn *c, struct half *h, struct scratch *b)
{
	if (!c || !h)
		return 0;
	if (h->status) {
		c->response_bytes = h->body;
		finish(c, now_of(b));
	} else if (h->chunked && c->pushed != c->popped && c->pushed - c->popped <= DEPTH) {
		c->sizes[(c->pushed - 1) % DEPTH] = h->body > 0xffffffff ? 0xffffffff : h->body;
	}
	reset_half(h, AT_START);
	h->first_ns = 0;
	return 0;
}

/* The empty line after the header fields. */
static __always_inline int head_end(struct conn *c, struct half *h, __u32 sent, struct scratch *b)
{
	if (!c || !h)
		return 0;
	if (spanning && !h->status)
		sample(BOTH(c, h), sent);
	if (h->status) {
		if (h->status == 101 || (c->method == CONNECT && h->status / 100 == 2 && !c->orphan)) {
			/* what follows is not HTTP */
			finish(c, now_of(b));
			c->ignored = 1;
			return 0;
		}
		if (h->status < 200) {
			reset_half(h, AT_START);
			return 0;
		}
		if (h->status == 204 || h->status == 304 || (c->method == HEAD && !c->orphan)) {
			h->body = 0;
			message_end(c, h, b);
			return 0;
		}
	}
	if (h->chunked) {
		h->state = CHUNK_SIZE;
		h->left = 0;
		return 0;
	}
	if (h->has_length) {
		h->body = h->left;
		if (!h->status && c->pushed != c->popped && c->pushed - c->popped <= DEPTH)
			c->sizes[(c->pushed - 1) % DEPTH] = h->left > 0xffffffff ? 0xffffffff : h->left;
		if (h->left) {
			h->state = IN_BODY;
			return 0;
		}
	} else if (h->status) {
		h->state = UNTIL_CLOSE;
		return 0;
	}
	message_end(c, h, b);
	return 0;
}

/* A chunk's length, in hexadecimal. */
static __always_inline int chunk_line(struct half *h, struct scratch *b, __u32 pos, __u32 lf)
{
	__u64 n = 0;
	__u32 i;

	for (i = 0; i < 12; i++) {
		__u8 ch = b->data[(pos + i) & 2047], d;

		if (pos + i >= lf)
			break;
		if (ch >= '0' && ch <= '9')
			d = ch - '0';
		else if ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'f')
			d = (ch | 0x20) - 'a' + 10;
		else
			break;
		n = n << 4 | d;
	}
	if (!i)
		return 0;
	if (!n) {
		h->state = IN_TRAILER;
		return 1;
	}
	h->body += n;
	h->left = n + 2;
	h->state = IN_CHUNK;
	return 1;
}

/* One line [pos, lf), of a head the empty one; returns 1 when what follows is no
 * line. */
static __always_inline int on_line(struct conn *c, struct half *h, __u32 sent, __u32 pos, __u32 lf)
{
	struct scratch *b = get_scratch(sent);
	__u32 len = lf - pos;

	if (!b || !h || !c)
		return 1;
	if (h->skip) {
		h->skip = 0;
		return 0;
	}
	if (h->state == IN_HEAD) {
		h->state = HEAD_DONE;
		return 1;
	}
	if (h->state == AT_START) {
		if (len <= 1)
			return 0; /* an empty line between messages is allowed */
		if (!start_line(BOTH(c, h), sent, pos, lf)) {
			h->state = LOST;
			return 1;
		}
		h->state = IN_HEAD;
		return 0;
	}
	if (h->state == CHUNK_SIZE) {
		if (!chunk_line(h, b, pos, lf)) {
			count(STAT_LOST);
			h->state = LOST;
			return 1;
		}
		return h->state == IN_CHUNK;
	}
	if (len <= 1) /* IN_TRAILER */
		h->state = DONE;
	return len <= 1;
}
