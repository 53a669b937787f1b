/*
 * Reference on epoll: edge-triggered, one epoll_ctl a connection, receive until a
 * short one, answer directly, keep only what the socket did not take. A connection
 * whose answer is waiting is not read, so its backlog is one buffer at most.
 */
#include "common.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/uio.h>

enum {
	EVENTS = 512,
	ROUNDS = 16, /* full receives in a row before the others have their turn */
	GATHER = 64, /* payloads a sendmsg */
};

enum role { UNKNOWN, SUBSCRIBER, PUBLISHER };

struct conn {
	int fd; /* -1: closed, freed at the end of the turn */
	enum role role;
	bool hangup;         /* read up to the end: there will be no further edge */
	char *out;           /* backlog */
	size_t head, len, cap; /* waiting bytes are out[head .. head+len) */
	struct frames *frames;
	size_t sub;          /* index among the subscribers */
	struct conn *next;   /* in the list of those to be freed */
};

struct loop {
	const struct config *cfg;
	int epoll, listener;
	bool deaf; /* no descriptor left: the listener is out of the set */
	char *buf;
	struct conn **subs, *closed;
	size_t nsubs, capsubs;
	struct iovec iov[GATHER]; /* payloads of this receive, for all subscribers */
	char *bodies[GATHER];
	int niov;
};

/* Two marks that are no connection. */
static char listener_mark, stdin_mark;

static void watch(struct loop *l, int op, int fd, uint32_t events, void *mark)
{
	struct epoll_event ev = { .events = events, .data.ptr = mark };
	if (epoll_ctl(l->epoll, op, fd, &ev))
		die("epoll_ctl", errno);
}

static void conn_close(struct loop *l, struct conn *c)
{
	if (c->fd < 0)
		return;
	close(c->fd);
	c->fd = -1;
	if (c->role == SUBSCRIBER) {
		l->subs[c->sub] = l->subs[--l->nsubs];
		l->subs[c->sub]->sub = c->sub;
	}
	c->next = l->closed;
	l->closed = c;
	if (l->deaf) {
		l->deaf = false;
		watch(l, EPOLL_CTL_ADD, l->listener, EPOLLIN, &listener_mark);
	}
}

static void free_closed(struct loop *l)
{
	for (struct conn *c; (c = l->closed);) {
		l->closed = c->next;
		frames_free(c->frames);
		free(c->out);
		free(c);
	}
}

static void keep(struct conn *c, const char *p, size_t n)
{
	if (c->head + c->len + n > c->cap) {
		size_t cap = c->len + n > 2 * c->len ? c->len + n : 2 * c->len;
		char *out = need(malloc(cap));
		if (c->len)
			memcpy(out, c->out + c->head, c->len);
		free(c->out);
		c->out = out, c->cap = cap, c->head = 0;
	}
	memcpy(c->out + c->head + c->len, p, n);
	c->len += n;
}

static bool blocked(ssize_t n)
{
	return n < 0 && (errno == EAGAIN || errno == EINTR);
}

/* answer sends now what the socket takes and keeps the rest. */
static void answer(struct loop *l, struct conn *c, const struct iovec *iov, int niov)
{
	ssize_t n = 0;
	if (!c->len) {
		struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)niov };
		n = niov == 1 ? send(c->fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL) :
				sendmsg(c->fd, &msg, MSG_NOSIGNAL);
		if (n < 0 && !blocked(n)) {
			conn_close(l, c);
			return;
		}
	}
	size_t sent = n > 0 ? (size_t)n : 0;
	for (int i = 0; i < niov; i++) {
		size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len;
		sent -= skip;
		if (skip < iov[i].iov_len)
			keep(c, (char *)iov[i].iov_base + skip, iov[i].iov_len - skip);
	}
}

static void flush(struct loop *l, struct conn *c)
{
	while (c->len) {
		ssize_t n = send(c->fd, c->out + c->head, c->len, MSG_NOSIGNAL);
		if (blocked(n))
			return;
		if (n < 0) {
			conn_close(l, c);
			return;
		}
		c->head += (size_t)n, c->len -= (size_t)n;
	}
	free(c->out);
	c->out = NULL, c->head = c->cap = 0;
}

static void broadcast(struct loop *l)
{
	/* Backwards: a subscriber that is closed gives its place to the last one. */
	for (size_t i = l->nsubs; l->niov && i-- > 0;)
		answer(l, l->subs[i], l->iov, l->niov);
	for (int i = 0; i < l->niov; i++)
		free(l->bodies[i]);
	l->niov = 0;
}

static void gather(void *ctx, const char *payload, uint32_t size, char *body)
{
	struct loop *l = ctx;
	l->iov[l->niov] = (struct iovec){ (char *)payload, size };
	l->bodies[l->niov] = body;
	if (++l->niov == GATHER)
		broadcast(l);
}

static void subscribe(struct loop *l, struct conn *c)
{
	if (l->nsubs == l->capsubs) {
		l->capsubs = l->capsubs ? 2 * l->capsubs : 64;
		l->subs = need(realloc(l->subs, l->capsubs * sizeof *l->subs));
	}
	c->role = SUBSCRIBER;
	c->sub = l->nsubs;
	l->subs[l->nsubs++] = c;
}

static void received(struct loop *l, struct conn *c, char *p, size_t n)
{
	if (!l->cfg->fanout) {
		answer(l, c, &(struct iovec){ p, n }, 1);
		return;
	}
	if (c->role == UNKNOWN && *p == 'S') {
		subscribe(l, c);
	} else if (c->role == UNKNOWN) {
		c->role = PUBLISHER;
		c->frames = need(calloc(1, sizeof *c->frames));
	}
	if (c->role == PUBLISHER) {
		bool ok = frames_feed(c->frames, p, n, gather, l);
		broadcast(l);
		if (!ok)
			conn_close(l, c);
	}
}

static void serve(struct loop *l, struct conn *c)
{
	/* A subscriber is read whatever waits for it: it sends nothing that is answered. */
	for (int round = 0; c->fd >= 0 && (!c->len || c->role == SUBSCRIBER);) {
		ssize_t n = recv(c->fd, l->buf, l->cfg->buffer, 0);
		if (n > 0) {
			received(l, c, l->buf, (size_t)n);
			if ((size_t)n < l->cfg->buffer && !c->hangup)
				return;
			if (++round < ROUNDS)
				continue;
			/* MOD looks at the socket again, so what is left is a new event. */
			if (c->fd >= 0)
				watch(l, EPOLL_CTL_MOD, c->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, c);
			return;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		conn_close(l, c);
	}
}

static void accept_all(struct loop *l)
{
	for (;;) {
		int fd = accept4(l->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0 && errno != EAGAIN) {
			l->deaf = true; /* until a connection gives its descriptor back */
			watch(l, EPOLL_CTL_DEL, l->listener, 0, NULL);
		}
		if (fd < 0)
			return;
		struct conn *c = need(calloc(1, sizeof *c));
		c->fd = fd;
		watch(l, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, c);
	}
}

static void on_event(struct loop *l, const struct epoll_event *ev)
{
	if (ev->data.ptr == &listener_mark) {
		accept_all(l);
		return;
	}
	if (ev->data.ptr == &stdin_mark) {
		stdin_readable();
		return;
	}
	struct conn *c = ev->data.ptr;
	if (c->fd < 0)
		return;
	bool resumed = false;
	if (ev->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->hangup = true;
	if (c->len && ev->events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
		flush(l, c);
		resumed = !c->len; /* the edge of what came meanwhile is gone */
	}
	if (resumed || ev->events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		serve(l, c);
}

static void *loop_main(void *arg)
{
	struct seat *seat = arg;
	struct loop *l = need(calloc(1, sizeof *l));
	struct epoll_event events[EVENTS];
	l->cfg = seat->cfg;
	l->listener = seat->listener;
	/* Whole pages: into malloc's memory, 16 bytes behind a page, some processors copy several times slower. */
	l->buf = mmap(NULL, l->cfg->buffer, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (l->buf == MAP_FAILED)
		die("mmap", errno);
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll < 0)
		die("epoll_create1", errno);
	if (fcntl(l->listener, F_SETFL, O_NONBLOCK))
		die("listener", errno);
	watch(l, EPOLL_CTL_ADD, l->listener, EPOLLIN, &listener_mark);
	if (seat->index == 0 && stdin_is_leash())
		watch(l, EPOLL_CTL_ADD, STDIN_FILENO, EPOLLIN, &stdin_mark);
	seat_ready(seat);
	for (;;) {
		int n = epoll_wait(l->epoll, events, EVENTS, -1);
		if (n < 0 && errno != EINTR)
			die("epoll_wait", errno);
		for (int i = 0; i < n; i++)
			on_event(l, &events[i]);
		free_closed(l);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct config cfg = parse(argc, argv, 256 << 10);
	if (cfg.probe)
		return 0;
	return run(&cfg, loop_main);
}
