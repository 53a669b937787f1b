/*
 * What both C references share: the command line, the listener, the two ways to
 * end, and the frames of the fan-out protocol.
 */
#ifndef COMMON_H
#define COMMON_H

#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct config {
	const char *name;    /* printed beside the address */
	const char *address; /* numeric HOST:PORT */
	size_t buffer;       /* bytes of one receive buffer */
	unsigned loops;      /* event loops, one thread each */
	bool fanout;         /* else echo */
	bool optimistic;     /* io_uring only */
	bool probe;          /* only find out whether the kernel allows it */
};

static inline void die(const char *what, int err)
{
	fprintf(stderr, "%s: %s\n", what, strerror(err));
	exit(1);
}

static inline void *need(void *p)
{
	if (!p)
		die("memory", ENOMEM);
	return p;
}

static inline struct config parse(int argc, char **argv, size_t buffer)
{
	static const struct option options[] = {
		{ "name", required_argument, 0, 'n' },   { "listen", required_argument, 0, 'a' },
		{ "buffer", required_argument, 0, 'b' }, { "loops", required_argument, 0, 'l' },
		{ "fanout", no_argument, 0, 'f' },       { "optimistic", no_argument, 0, 'o' },
		{ "probe", no_argument, 0, 'p' },        { 0, 0, 0, 0 },
	};
	struct config cfg = { .name = "c", .address = "127.0.0.1:0", .buffer = buffer, .loops = 1 };
	for (int opt; (opt = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (opt) {
		case 'n': cfg.name = optarg; break;
		case 'a': cfg.address = optarg; break;
		case 'b': cfg.buffer = strtoul(optarg, NULL, 10); break;
		case 'l': cfg.loops = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'f': cfg.fanout = true; break;
		case 'o': cfg.optimistic = true; break;
		case 'p': cfg.probe = true; break;
		default: exit(2);
		}
	}
	if (cfg.buffer < 64 || cfg.buffer > 1 << 30 || cfg.loops < 1 || cfg.loops > 1024) {
		fputs("buffer: 64 bytes to 1 GiB, loops: 1 to 1024\n", stderr);
		exit(2);
	}
	if (cfg.fanout && cfg.loops > 1) {
		fputs("fan-out is served by one loop here: use --loops 1\n", stderr);
		exit(2);
	}
	return cfg;
}

/*
 * tcp_listen opens a listener. Accepted sockets inherit TCP_NODELAY from it, which
 * saves a system call each. Several loops share one port by SO_REUSEPORT; *port is
 * the port to bind, and the one that was bound when it was 0.
 */
static inline int tcp_listen(const struct config *cfg, char *host, size_t host_size, int *port)
{
	char text[128], service[16];
	snprintf(text, sizeof text, "%s", cfg->address);
	char *colon = strrchr(text, ':');
	if (!colon)
		die(cfg->address, EINVAL);
	*colon = 0;
	char *name = text;
	if (*name == '[') { /* [::1]:80 */
		name++;
		colon[-1] = 0;
	}
	snprintf(service, sizeof service, "%d", *port ? *port : atoi(colon + 1));

	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV }, *ai;
	if (getaddrinfo(name, service, &hints, &ai))
		die(cfg->address, EINVAL);
	int one = 1, fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket", errno);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (cfg->loops > 1)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) || listen(fd, SOMAXCONN))
		die(cfg->address, errno);
	freeaddrinfo(ai);

	struct sockaddr_storage bound;
	socklen_t size = sizeof bound;
	getsockname(fd, (struct sockaddr *)&bound, &size);
	getnameinfo((struct sockaddr *)&bound, size, host, (socklen_t)host_size, service, sizeof service,
		    NI_NUMERICHOST | NI_NUMERICSERV);
	*port = atoi(service);
	return fd;
}

static inline void on_term(int sig)
{
	(void)sig;
	_exit(0);
}

/* prepare makes SIGTERM an orderly end and takes as many descriptors as the limit allows. */
static inline void prepare(void)
{
	struct rlimit limit;
	signal(SIGTERM, on_term);
	signal(SIGINT, on_term);
	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* stdin_is_leash: a pipe or socket that closes says that who started us is gone. */
static inline bool stdin_is_leash(void)
{
	struct stat st;
	return !fstat(STDIN_FILENO, &st) && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
}

/* stdin_readable is called when stdin is readable; at its end it ends the process. */
static inline void stdin_readable(void)
{
	char scrap[256];
	ssize_t n = read(STDIN_FILENO, scrap, sizeof scrap);
	if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
		_exit(0);
}

/*
 * run starts a loop on each thread, the first one on this: a process with a single
 * thread looks descriptors up more cheaply. The address is printed when all are ready.
 */
struct seat {
	const struct config *cfg;
	int listener, index;
	char host[128];
	int port;
	pthread_barrier_t *ready;
};

static inline void seat_ready(struct seat *s)
{
	pthread_barrier_wait(s->ready);
	if (s->index)
		return;
	bool v6 = strchr(s->host, ':');
	printf("listening on tcp://%s%s%s:%d peer=%s\n", v6 ? "[" : "", s->host, v6 ? "]" : "", s->port, s->cfg->name);
	fflush(stdout);
}

static inline int run(const struct config *cfg, void *(*loop)(void *))
{
	pthread_barrier_t ready;
	struct seat *seats = need(calloc(cfg->loops, sizeof *seats));
	int port = 0;
	prepare();
	pthread_barrier_init(&ready, NULL, cfg->loops);
	for (unsigned i = 0; i < cfg->loops; i++) {
		seats[i] = (struct seat){ .cfg = cfg, .index = (int)i, .ready = &ready };
		seats[i].listener = tcp_listen(cfg, seats[i].host, sizeof seats[i].host, &port);
		seats[i].port = port;
	}
	for (unsigned i = 1; i < cfg->loops; i++) {
		pthread_t thread;
		int err = pthread_create(&thread, NULL, loop, &seats[i]);
		if (err)
			die("thread", err);
	}
	loop(&seats[0]);
	return 0;
}

/* ---- fan-out: 'P', size as 4 bytes big-endian, payload; and so on ---- */

enum { FRAME_HEAD = 5, FRAME_MAX = 64 << 20 };

struct frames {
	unsigned char head[FRAME_HEAD];
	unsigned have;         /* bytes of head that have come */
	uint32_t size, filled; /* of body */
	char *body;            /* a payload that comes in several receives */
};

/*
 * on_frame gets one payload. It lies within what was fed when body is NULL; else it is
 * body, which on_frame has to free.
 */
typedef void on_frame(void *ctx, const char *payload, uint32_t size, char *body);

/* frames_feed cuts what was received into payloads; false when it is no frame. */
static inline bool frames_feed(struct frames *f, const char *p, size_t n, on_frame *fn, void *ctx)
{
	while (n) {
		if (f->have < FRAME_HEAD) {
			size_t k = FRAME_HEAD - f->have < n ? FRAME_HEAD - f->have : n;
			memcpy(f->head + f->have, p, k);
			f->have += (unsigned)k, p += k, n -= k;
			if (f->head[0] != 'P')
				return false;
			if (f->have < FRAME_HEAD)
				return true;
			f->size = (uint32_t)f->head[1] << 24 | f->head[2] << 16 | f->head[3] << 8 | f->head[4];
			f->filled = 0;
			if (f->size > FRAME_MAX)
				return false;
			if (!f->size)
				f->have = 0;
			continue;
		}
		if (!f->body && f->size <= n) {
			fn(ctx, p, f->size, NULL);
			p += f->size, n -= f->size, f->have = 0;
			continue;
		}
		if (!f->body)
			f->body = need(malloc(f->size));
		size_t k = f->size - f->filled < n ? f->size - f->filled : n;
		memcpy(f->body + f->filled, p, k);
		f->filled += (uint32_t)k, p += k, n -= k;
		if (f->filled == f->size) {
			char *body = f->body;
			f->body = NULL, f->have = 0;
			fn(ctx, body, f->size, body);
		}
	}
	return true;
}

static inline void frames_free(struct frames *f)
{
	if (f)
		free(f->body);
	free(f);
}

#endif
