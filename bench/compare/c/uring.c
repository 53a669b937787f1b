/*
 * Reference on io_uring: multishot accept and receive, one ring of provided buffers,
 * one submit-and-wait a turn. What was received is not copied but moved into the send,
 * and its buffer goes back to the ring when the send is over. Every send starts at the
 * end of a turn, so a connection has one at most and never overtakes itself.
 *
 * With --optimistic a send is tried at once and says nothing when it took everything:
 * its bytes are free after the next submit-and-wait, and only one that was short or
 * would have blocked has a completion; what is left is then sent the ordinary way.
 */
#include "common.h"

#include <liburing.h>
#include <poll.h>
#include <sys/mman.h>

enum {
	SQ = 4096,
	CQ = 4 * SQ,
	BUFFERS = 512, /* a power of two */
	SCARCE = BUFFERS / 4,
	GATHER = 16,          /* pieces a sendmsg */
	MESSAGES = 1024,      /* sendmsg a submit */
	CHUNK = 64 << 10,     /* heap block for what a slow reader leaves */
	HIGH = 1 << 20,       /* waiting bytes that stop receiving */
	LOW = HIGH / 4,       /* and that start it again */
	GROUP = 1,
};

enum op { OP_NONE, OP_RECV, OP_SEND, OP_ACCEPT, OP_STDIN, OP_MASK = 7 };
enum role { UNKNOWN, SUBSCRIBER, PUBLISHER };

/* block is memory that pieces point into: a provided buffer, or heap when id < 0. */
struct block {
	uint32_t refs;
	int32_t id;
	uint32_t used, cap; /* of a heap block */
	char *data;
};

/* piece is bytes that wait to be sent. */
struct piece {
	struct piece *next;
	struct block *block;
	char *data;
	size_t len;
};

struct conn {
	int fd;
	uint32_t holds; /* completions to come and lists it is on; freed at 0 when dead */
	struct piece *head, *tail;
	size_t waiting;   /* bytes in the pieces */
	size_t in_flight; /* of them handed to the kernel */
	bool receiving;   /* a multishot receive is armed */
	bool paused;      /* it was cancelled since too much waits */
	bool starved;     /* it ended since the ring had no buffer */
	bool sending;     /* a send whose completion comes */
	bool unsettled;   /* an optimistic send that has not failed yet */
	bool blocked;     /* the last optimistic one failed: the next one waits */
	bool dirty, eof, dead;
	enum role role;
	uint32_t sub; /* index among the subscribers */
	struct frames *frames;
};

struct list {
	struct conn **at;
	size_t n, cap;
};

struct message {
	struct msghdr head;
	struct iovec iov[GATHER];
};

struct loop {
	struct io_uring ring;
	const struct config *cfg;
	int listener;
	bool accepting;
	struct io_uring_buf_ring *buf_ring;
	struct block blocks[BUFFERS];
	unsigned free, returned; /* buffers the kernel has; of them not yet announced */
	struct list dirty;       /* something to send at the end of the turn */
	struct list batch;       /* optimistic sends that were submitted */
	struct list starved, subs;
	struct piece *spare;     /* pieces for reuse */
	struct block *source;    /* the block that is being cut into frames */
	struct message *messages;
	unsigned nmessages;
};

/* ---- small things ---- */

static void append(struct list *s, struct conn *c)
{
	if (s->n == s->cap) {
		s->cap = s->cap ? 2 * s->cap : 64;
		s->at = need(realloc(s->at, s->cap * sizeof *s->at));
	}
	s->at[s->n++] = c;
}

static struct io_uring_sqe *next_sqe(struct loop *l)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&l->ring);
	if (!sqe) {
		io_uring_submit(&l->ring);
		l->nmessages = 0; /* submitted: the kernel has its own copies */
		sqe = io_uring_get_sqe(&l->ring);
	}
	if (!sqe)
		die("submission queue", EBUSY);
	return sqe;
}

static void mark(struct io_uring_sqe *sqe, struct conn *c, enum op op)
{
	sqe->user_data = (uintptr_t)c | op;
}

static struct block *heap_block(size_t cap)
{
	struct block *b = need(malloc(sizeof *b + cap));
	*b = (struct block){ .refs = 1, .id = -1, .cap = (uint32_t)cap, .data = (char *)(b + 1) };
	return b;
}

static void unref(struct loop *l, struct block *b)
{
	if (--b->refs)
		return;
	if (b->id < 0) {
		free(b);
		return;
	}
	io_uring_buf_ring_add(l->buf_ring, b->data, (unsigned)l->cfg->buffer, (unsigned short)b->id,
			      BUFFERS - 1, (int)l->returned++);
	l->free++;
}

static void arm_accept(struct loop *l)
{
	struct io_uring_sqe *sqe = next_sqe(l);
	io_uring_prep_multishot_accept(sqe, l->listener, NULL, NULL, SOCK_CLOEXEC);
	mark(sqe, NULL, OP_ACCEPT);
	l->accepting = true;
}

static void arm_stdin(struct loop *l)
{
	struct io_uring_sqe *sqe = next_sqe(l);
	io_uring_prep_poll_add(sqe, STDIN_FILENO, POLLIN);
	mark(sqe, NULL, OP_STDIN);
}

static void arm_recv(struct loop *l, struct conn *c)
{
	struct io_uring_sqe *sqe = next_sqe(l);
	io_uring_prep_recv_multishot(sqe, c->fd, NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = GROUP;
	mark(sqe, c, OP_RECV);
	c->receiving = true;
	c->holds++;
}

/* ---- the life of a connection ---- */

static void pop_piece(struct loop *l, struct conn *c)
{
	struct piece *p = c->head;
	c->head = p->next;
	if (!c->head)
		c->tail = NULL;
	unref(l, p->block);
	p->next = l->spare;
	l->spare = p;
}

/* drop gives a hold back; the last one of a dead connection frees it. */
static void drop(struct loop *l, struct conn *c)
{
	if (--c->holds || !c->dead)
		return;
	while (c->head)
		pop_piece(l, c);
	struct io_uring_sqe *sqe = next_sqe(l);
	io_uring_prep_close(sqe, c->fd);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	mark(sqe, NULL, OP_NONE);
	frames_free(c->frames);
	free(c);
	if (!l->accepting)
		arm_accept(l);
}

/* finish ends a connection; the caller holds it. */
static void finish(struct loop *l, struct conn *c)
{
	if (c->dead)
		return;
	c->dead = true;
	if (c->role == SUBSCRIBER) {
		struct conn *last = l->subs.at[--l->subs.n];
		l->subs.at[c->sub] = last;
		last->sub = c->sub;
	}
	if (c->receiving || c->sending)
		shutdown(c->fd, SHUT_RDWR); /* brings their completions */
}

static void touch(struct loop *l, struct conn *c)
{
	if (c->dirty || c->dead)
		return;
	c->dirty = true;
	c->holds++;
	append(&l->dirty, c);
}

static void pause_recv(struct loop *l, struct conn *c)
{
	if (c->waiting < HIGH || !c->receiving || c->paused || l->cfg->fanout)
		return;
	struct io_uring_sqe *sqe = next_sqe(l);
	io_uring_prep_cancel64(sqe, (uintptr_t)c | OP_RECV, 0);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	mark(sqe, NULL, OP_NONE);
	c->paused = true;
}

/* ---- sending ---- */

static void push_piece(struct loop *l, struct conn *c, struct block *b, char *data, size_t n)
{
	struct piece *p = l->spare;
	if (p)
		l->spare = p->next;
	else
		p = need(malloc(sizeof *p));
	*p = (struct piece){ .block = b, .data = data, .len = n };
	if (c->tail)
		c->tail->next = p;
	else
		c->head = p;
	c->tail = p;
	b->refs++;
}

/* copy puts bytes behind the last ones of the connection's own heap block. */
static void copy(struct loop *l, struct conn *c, const char *data, size_t n)
{
	while (n) {
		struct piece *t = c->tail;
		struct block *b = t ? t->block : NULL;
		if (!b || b->id >= 0 || b->refs != 1 || b->used == b->cap) {
			b = heap_block(CHUNK);
			push_piece(l, c, b, b->data, 0);
			b->refs--; /* the piece has the only one */
			continue;
		}
		size_t k = b->cap - b->used < n ? b->cap - b->used : n;
		memcpy(b->data + b->used, data, k);
		b->used += (uint32_t)k, t->len += k, data += k, n -= k;
	}
}

/*
 * push queues bytes of a block. They are moved, unless that would keep buffers from the
 * ring for long: a reader that is behind, or few buffers left.
 */
static void push(struct loop *l, struct conn *c, struct block *b, char *data, size_t n)
{
	c->waiting += n;
	if (b->id >= 0 && (c->sending || l->free < SCARCE))
		copy(l, c, data, n);
	else
		push_piece(l, c, b, data, n);
	touch(l, c);
	pause_recv(l, c);
}

static void start_send(struct loop *l, struct conn *c)
{
	if (l->nmessages == MESSAGES) {
		io_uring_submit(&l->ring);
		l->nmessages = 0;
	}
	struct io_uring_sqe *sqe = next_sqe(l);
	struct piece *p = c->head;
	struct message *m = &l->messages[l->nmessages];
	size_t n = 0;
	for (c->in_flight = 0; p && n < GATHER; p = p->next, n++) {
		m->iov[n] = (struct iovec){ p->data, p->len };
		c->in_flight += p->len;
	}
	/* Silence brings no turn, so it must not be what the next step waits for. */
	bool optimistic = l->cfg->optimistic && !c->blocked && !c->eof && !c->paused && !p;
	int flags = MSG_NOSIGNAL | MSG_WAITALL | (optimistic ? MSG_DONTWAIT : 0);
	if (n == 1) {
		io_uring_prep_send(sqe, c->fd, c->head->data, c->head->len, flags);
	} else {
		m->head = (struct msghdr){ .msg_iov = m->iov, .msg_iovlen = n };
		io_uring_prep_sendmsg(sqe, c->fd, &m->head, (unsigned)flags);
		l->nmessages++;
	}
	mark(sqe, c, OP_SEND);
	c->holds++;
	if (optimistic) {
		sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
		c->unsettled = true;
		append(&l->batch, c);
	} else {
		c->sending = true;
	}
}

/* sent takes n bytes off the queue; the caller holds the connection. */
static void sent(struct loop *l, struct conn *c, size_t n)
{
	c->in_flight = 0;
	c->waiting -= n;
	while (n) {
		size_t k = c->head->len < n ? c->head->len : n;
		c->head->data += k, c->head->len -= k, n -= k;
		if (!c->head->len)
			pop_piece(l, c);
	}
	if (c->waiting)
		touch(l, c);
	else if (c->eof)
		finish(l, c);
	if (c->paused && c->waiting < LOW && !c->dead) {
		c->paused = false;
		if (!c->receiving && !c->eof && !c->starved)
			arm_recv(l, c);
	}
}

static void on_send(struct loop *l, struct conn *c, int res)
{
	bool held = c->sending; /* else the batch holds it */
	if (c->unsettled)
		c->blocked = true;
	else if (c->waiting == c->in_flight)
		c->blocked = false;
	c->sending = c->unsettled = false;
	if (res < 0 && res != -EAGAIN && res != -EINTR)
		finish(l, c);
	else if (!c->dead)
		sent(l, c, res > 0 ? (size_t)res : 0);
	if (held)
		drop(l, c);
}

/* settle ends the optimistic sends that were submitted before: no news is good news. */
static void settle(struct loop *l)
{
	for (size_t i = 0; i < l->batch.n; i++) {
		struct conn *c = l->batch.at[i];
		if (c->unsettled) {
			c->unsettled = false;
			sent(l, c, c->in_flight);
		}
		drop(l, c);
	}
	l->batch.n = 0;
}

static void send_dirty(struct loop *l)
{
	for (size_t i = 0; i < l->dirty.n; i++) {
		struct conn *c = l->dirty.at[i];
		c->dirty = false;
		if (!c->dead && !c->sending && c->waiting)
			start_send(l, c);
		drop(l, c);
	}
	l->dirty.n = 0;
}

/* ---- receiving ---- */

static void on_payload(void *ctx, const char *payload, uint32_t size, char *body)
{
	struct loop *l = ctx;
	struct block *b = l->source;
	if (body || l->free < SCARCE) { /* one copy for all subscribers */
		b = heap_block(size);
		memcpy(b->data, payload, size);
		b->used = size;
		payload = b->data;
		free(body);
	} else {
		b->refs++;
	}
	for (size_t i = 0; i < l->subs.n; i++)
		push(l, l->subs.at[i], b, (char *)payload, size);
	unref(l, b);
}

static void received(struct loop *l, struct conn *c, struct block *b, size_t n)
{
	if (!l->cfg->fanout) {
		push(l, c, b, b->data, n);
		return;
	}
	if (c->role == UNKNOWN && *b->data == 'S') {
		c->role = SUBSCRIBER;
		c->sub = (uint32_t)l->subs.n;
		append(&l->subs, c);
	} else if (c->role == UNKNOWN) {
		c->role = PUBLISHER;
		c->frames = need(calloc(1, sizeof *c->frames));
	}
	l->source = b;
	if (c->role == PUBLISHER && !frames_feed(c->frames, b->data, n, on_payload, l))
		finish(l, c);
}

static void on_recv(struct loop *l, struct conn *c, int res, unsigned flags)
{
	bool more = flags & IORING_CQE_F_MORE;
	if (!more)
		c->receiving = false;
	if (flags & IORING_CQE_F_BUFFER) {
		struct block *b = &l->blocks[flags >> IORING_CQE_BUFFER_SHIFT];
		b->refs = 1;
		l->free--;
		if (res > 0 && !c->dead)
			received(l, c, b, (size_t)res);
		unref(l, b);
	}
	if (res == 0 && !more) {
		c->eof = true;
		if (!c->waiting)
			finish(l, c);
	} else if (res == -ENOBUFS && !c->dead) {
		c->starved = true;
		c->holds++;
		append(&l->starved, c);
	} else if (res < 0 && res != -ECANCELED && res != -EINTR) {
		finish(l, c);
	}
	if (more)
		return;
	if (!c->dead && !c->eof && !c->paused && !c->starved)
		arm_recv(l, c);
	drop(l, c);
}

/* feed_starved receives again where the ring had been empty. */
static void feed_starved(struct loop *l)
{
	if (l->free < BUFFERS / 2)
		return;
	for (size_t i = 0; i < l->starved.n; i++) {
		struct conn *c = l->starved.at[i];
		c->starved = false;
		if (!c->dead && !c->eof && !c->paused)
			arm_recv(l, c);
		drop(l, c);
	}
	l->starved.n = 0;
}

static void on_accept(struct loop *l, int res, unsigned flags)
{
	if (res >= 0) {
		struct conn *c = need(calloc(1, sizeof *c));
		c->fd = res;
		arm_recv(l, c);
	}
	if (flags & IORING_CQE_F_MORE)
		return;
	l->accepting = false;
	/* Without a descriptor left accepting waits for a connection to end. */
	if (res != -EMFILE && res != -ENFILE && res != -ENOBUFS && res != -ENOMEM)
		arm_accept(l);
}

/* ---- the loop ---- */

static void turn(struct loop *l)
{
	/* What is to be done after this submit must not wait for news from outside. */
	bool busy = l->dirty.n || (l->starved.n && l->batch.n);
	int err = io_uring_submit_and_wait(&l->ring, busy ? 0 : 1);
	if (err < 0 && err != -EINTR && err != -EBUSY && err != -EAGAIN)
		die("io_uring_enter", -err);
	bool submitted = !io_uring_sq_ready(&l->ring);
	if (submitted)
		l->nmessages = 0;

	struct io_uring_cqe *cqe;
	unsigned head, n = 0;
	io_uring_for_each_cqe(&l->ring, head, cqe) {
		struct conn *c = (struct conn *)(uintptr_t)(cqe->user_data & ~(uint64_t)OP_MASK);
		switch ((enum op)(cqe->user_data & OP_MASK)) {
		case OP_RECV: on_recv(l, c, cqe->res, cqe->flags); break;
		case OP_SEND: on_send(l, c, cqe->res); break;
		case OP_ACCEPT: on_accept(l, cqe->res, cqe->flags); break;
		case OP_STDIN: stdin_readable(); arm_stdin(l); break;
		default: break;
		}
		n++;
	}
	io_uring_cq_advance(&l->ring, n);

	/* Silence means success only when everything was submitted and no completion waits outside. */
	if (submitted && !(IO_URING_READ_ONCE(*l->ring.sq.kflags) & IORING_SQ_CQ_OVERFLOW)) {
		settle(l);
		send_dirty(l);
	}
	feed_starved(l);
	io_uring_buf_ring_advance(l->buf_ring, (int)l->returned);
	l->returned = 0;
}

static void setup(struct loop *l)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_SUBMIT_ALL |
			 IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
		.cq_entries = CQ,
	};
	int err = io_uring_queue_init_params(SQ, &l->ring, &params);
	if (err)
		die("io_uring_setup (Linux 6.1 or newer, and kernel.io_uring_disabled=0)", -err);
	io_uring_register_ring_fd(&l->ring);

	size_t ring_size = BUFFERS * sizeof(struct io_uring_buf);
	l->buf_ring = mmap(NULL, ring_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *memory = mmap(NULL, BUFFERS * l->cfg->buffer, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (l->buf_ring == MAP_FAILED || memory == MAP_FAILED)
		die("mmap", errno);
	struct io_uring_buf_reg reg = {
		.ring_addr = (uintptr_t)l->buf_ring, .ring_entries = BUFFERS, .bgid = GROUP,
	};
	err = io_uring_register_buf_ring(&l->ring, &reg, 0);
	if (err)
		die("io_uring_register_buf_ring", -err);
	io_uring_buf_ring_init(l->buf_ring);
	for (int i = 0; i < BUFFERS; i++) {
		l->blocks[i] = (struct block){ .refs = 1, .id = i, .data = memory + (size_t)i * l->cfg->buffer };
		unref(l, &l->blocks[i]);
	}
	io_uring_buf_ring_advance(l->buf_ring, (int)l->returned);
	l->returned = 0;
	l->messages = need(malloc(MESSAGES * sizeof *l->messages));
}

static void *loop_main(void *arg)
{
	struct seat *seat = arg;
	struct loop *l = need(calloc(1, sizeof *l));
	l->cfg = seat->cfg;
	l->listener = seat->listener;
	setup(l); /* on this thread: it is the ring's single issuer */
	arm_accept(l);
	if (seat->index == 0 && stdin_is_leash())
		arm_stdin(l);
	io_uring_submit(&l->ring);
	seat_ready(seat);
	for (;;)
		turn(l);
	return NULL;
}

int main(int argc, char **argv)
{
	struct config cfg = parse(argc, argv, 64 << 10);
	if (cfg.probe) {
		struct loop *l = need(calloc(1, sizeof *l));
		l->cfg = &cfg;
		setup(l);
		return 0;
	}
	return run(&cfg, loop_main);
}
