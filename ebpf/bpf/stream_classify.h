/* SPDX-License-Identifier: Apache-2.0 */
/* Tells a connection's protocol by the first bytes of an I/O. Part of
 * stream.bpf.c. */
#pragma once

/* What is looked at: the first bytes of a message as far as they are known. */
struct look {
	__u8 b[LOOK];
	__u32 n;      /* bytes in b */
	__u32 length; /* of the I/O, what was kept of the one before included */
	__u8 virgin; /* the first bytes of the direction */
};

static __always_inline __u32 be32(const __u8 *b)
{
	return (__u32)b[0] << 24 | (__u32)b[1] << 16 | (__u32)b[2] << 8 | b[3];
}

static __always_inline __u32 be16(const __u8 *b)
{
	return (__u32)b[0] << 8 | b[1];
}

static __always_inline bool is_preface(const __u8 *b)
{
	return be32(b) == 0x50524920 && be32(b + 4) == 0x2a204854; /* "PRI * HT" */
}

/* Does an HTTP/2 frame begin here? */
static __always_inline bool is_frame(const __u8 *b)
{
	__u32 len = be32(b) >> 8, stream = be32(b + 5);
	__u8 type = b[3], flags = b[4];

	if (stream >> 31)
		return false;
	switch (type) {
	case 0: /* DATA */
		return len <= 1 << 20 && stream && !(flags & ~0x9);
	case 1: /* HEADERS */
		return len && len <= 1 << 16 && stream && !(flags & ~0x2d);
	case 2: /* PRIORITY */
		return len == 5 && stream;
	case 3: /* RST_STREAM */
		return len == 4 && stream && !flags;
	case 4: /* SETTINGS */
		return !stream && len % 6 == 0 && len <= 60 && flags <= 1;
	case 6: /* PING */
		return len == 8 && !stream && flags <= 1;
	case 7: /* GOAWAY */
		return len >= 8 && len < 4096 && !stream && !flags;
	case 8: /* WINDOW_UPDATE */
		return len == 4 && !flags;
	case 9: /* CONTINUATION */
		return len <= 1 << 16 && stream && !(flags & ~4);
	}
	return false;
}

/* Frames that begin a request, or that connections are kept alive with: by
 * others a connection older than the probe is not told. */
static __always_inline bool is_old_http2(struct look *l)
{
	__u8 type = l->b[3];

	if (l->n < 9 || l->b[0] || !is_frame(l->b))
		return false;
	if (type == 1)
		return (l->b[8] & 1) && (l->b[4] & 4) && be32(l->b) >> 8 <= l->length - 9;
	return (type == 6 || type == 8 || type == 4) && be32(l->b) >> 8 <= l->length - 9 &&
	       (l->length < 18 || l->n < 26 || is_frame(l->b + (type == 6 ? 17 : 13)) || type == 4);
}

static __always_inline bool is_postgres_frontend(__u8 c)
{
	switch (c) {
	case 'Q': case 'P': case 'B': case 'E': case 'D': case 'C': case 'S': case 'H':
		return true;
	}
	return false;
}

static __always_inline bool is_postgres(struct look *l)
{
	__u32 len, code;
	__u64 at;

	if (l->n < 5)
		return false;
	if (l->n >= 8 && be32(l->b) == l->length) {
		code = be32(l->b + 4);
		if (code == 196608 || code == 196610 || code == 80877103 || code == 80877104)
			return true;
	}
	len = be32(l->b + 1);
	if (!is_postgres_frontend(l->b[0]) || len < 4 || len >= l->length)
		return false;
	if (l->b[0] == 'Q')
		return len > 5 && len + 1 == l->length;
	if (l->b[0] != 'P' && l->b[0] != 'B')
		return false;
	if (len + 1 != l->length && len + 6 > l->length)
		return false; /* no other message follows */
	if (len + 1 == l->length || len > LOOK - 8)
		return len >= 8;
	if (len + 6 > l->n)
		return false;
	at = len;
	asm volatile("%0 &= 63" : "+r"(at));
	if (at > LOOK - 8)
		return false;
	return is_postgres_frontend(l->b[at + 1]) && !l->b[at + 2];
}

static __always_inline bool is_postgres_backend(struct look *l)
{
	__u32 len = be32(l->b + 1);

	if (l->length == 1) /* the answer to a request for TLS */
		return l->b[0] == 'S' || l->b[0] == 'N' || l->b[0] == 'G';
	if (l->n < 5 || len < 4 || len > 1 << 24)
		return false;
	switch (l->b[0]) {
	case '1': case '2': case '3': case 'A': case 'C': case 'D': case 'E': case 'G': case 'H':
	case 'I': case 'K': case 'N': case 'R': case 'S': case 'T': case 'V': case 'W': case 'Z':
	case 'c': case 'd': case 'n': case 's': case 't': case 'v':
		return true;
	}
	return false;
}

static __always_inline __u32 le24(const __u8 *b)
{
	return b[0] | (__u32)b[1] << 8 | (__u32)b[2] << 16;
}

/* A server's greeting, or a command on a connection that is older. */
static __always_inline bool is_mysql(struct look *l)
{
	__u8 c = l->b[4];

	if (l->n < 5 || l->b[3] || le24(l->b) + 4 != l->length)
		return false;
	if (l->virgin && c == 10 && l->length > 40 && l->b[5] >= '0' && l->b[5] <= '9')
		return true;
	switch (c) {
	case 0x01: case 0x0e: /* quit, ping: no more than the command */
		return l->length == 5;
	case 0x02: case 0x03: case 0x16: /* use, query, prepare: text */
		return l->length > 5 && l->n > 5 && l->b[5] >= 1 && l->b[5] < 0x7f;
	case 0x17: /* execute: an id, flags, 1 */
		return l->length >= 14 && l->n >= 14 && be32(l->b + 10) == 0x01000000;
	}
	return false;
}

static __always_inline bool is_redis(struct look *l)
{
	if (l->n < 6 || l->b[0] != '*' || l->b[1] < '1' || l->b[1] > '9')
		return false;
	if (l->b[2] == '\r')
		return l->b[3] == '\n' && l->b[4] == '$' && l->b[5] >= '0' && l->b[5] <= '9';
	if (l->n < 7 || l->b[2] < '0' || l->b[2] > '9')
		return false;
	if (l->b[3] == '\r')
		return l->b[4] == '\n' && l->b[5] == '$';
	return l->b[3] >= '0' && l->b[3] <= '9' && l->b[4] == '\r' && l->b[5] == '\n' && l->b[6] == '$';
}

static __always_inline bool is_redis_reply(__u8 c)
{
	switch (c) {
	case '+': case '-': case ':': case '$': case '*': case '_': case '#': case ',':
	case '(': case '!': case '=': case '%': case '~': case '>': case '|':
		return true;
	}
	return false;
}

static __always_inline bool is_kafka_header(const __u8 *b)
{
	__u32 size = be32(b), name = be16(b + 12);

	if (size < 10 || size > 1 << 27 || be16(b + 4) > 92 || be16(b + 6) > 20 || b[8] >> 7)
		return false;
	if (name == 0xffff)
		return true;
	return name <= 256 && name + 10 <= size && (!name || (b[14] > ' ' && b[14] < 0x7f));
}

static __always_inline bool is_kafka(struct look *l)
{
	__u32 end = be32(l->b) + 4;
	__u64 at = end;

	if (l->n < 15 || !is_kafka_header(l->b))
		return false;
	if (end == l->length)
		return true;
	if (l->length < 64)
		return false;
	/* part of a long one, or another that follows */
	if (end > LOOK - 16)
		return end > l->length || end + 14 <= l->length;
	asm volatile("%0 &= 63" : "+r"(at));
	return at <= LOOK - 16 && at + 15 <= l->n && is_kafka_header(l->b + at);
}

/* What is surely none of them, so that it is left alone at once: TLS, SSH and
 * what the feature http counts. */
static __always_inline bool is_foreign(struct look *l)
{
	if (l->n < 4)
		return false;
	if ((l->b[0] == 0x16 || l->b[0] == 0x17) && l->b[1] == 3 && l->b[2] <= 4)
		return true;
	switch (be32(l->b)) {
	case 0x47455420: /* "GET " */
	case 0x504f5354: /* "POST" */
	case 0x50555420: /* "PUT " */
	case 0x48454144: /* "HEAD" */
	case 0x44454c45: /* "DELE" */
	case 0x4f505449: /* "OPTI" */
	case 0x50415443: /* "PATC" */
	case 0x434f4e4e: /* "CONN" */
	case 0x48545450: /* "HTTP" */
	case 0x5353482d: /* "SSH-" */
		return true;
	}
	return false;
}

/* The protocol that an I/O begins, KIND_UNKNOWN, or KIND_HTTP1 for what is left
 * alone. */
__noinline int classify(struct look *l)
{
	if (!l || !l->n)
		return KIND_UNKNOWN;
	if (l->n >= 8 && is_preface(l->b))
		return KIND_HTTP2;
	if (is_foreign(l))
		return KIND_HTTP1;
	if (is_redis(l))
		return KIND_REDIS;
	if (is_postgres(l))
		return KIND_POSTGRESQL;
	if (is_old_http2(l))
		return KIND_HTTP2;
	if (is_kafka(l))
		return KIND_KAFKA;
	if (is_mysql(l))
		return KIND_MYSQL;
	return KIND_UNKNOWN;
}

enum verdict { NO, YES, WAIT };

/* Does the other direction speak the protocol, too? */
__noinline int confirm(struct look *l, int kind, __u32 correlation)
{
	__u32 id;

	if (!l || !l->n)
		return WAIT;
	switch (kind) {
	case KIND_HTTP2:
		if (l->n < 9)
			return WAIT;
		return is_preface(l->b) || is_frame(l->b);
	case KIND_POSTGRESQL:
		return is_postgres_backend(l);
	case KIND_MYSQL:
		if (l->n < 5)
			return WAIT;
		return l->b[3] == 1;
	case KIND_REDIS:
		return is_redis_reply(l->b[0]);
	case KIND_KAFKA:
		if (l->n < 8)
			return WAIT;
		id = be32(l->b + 4);
		if (be32(l->b) > 1 << 28)
			return NO;
		if (id == correlation)
			return YES;
		return correlation - id < 4096 ? WAIT : NO;
	}
	return NO;
}
