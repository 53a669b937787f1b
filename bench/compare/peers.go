package main

import "sync"

// peer is one server that can be measured.
type peer struct {
	name   string
	how    string                 // how it is set up and why that is its best, one line
	serve  func(cfg config) error // returns only when it fails
	check  func() error           // why it is not available here, with the cure; nil = always is
	built  func() string          // by what it was built here, where that is not this module; nil = by this module
	native bool                   // replaces this process and minds its end itself
	// halfClose is how much of an answer is sure to reach a client that shut its
	// sending side down at once: all of it, or only what the socket takes at once, or nothing.
	halfClose halfClose
	protocols []string // none: those over TCP
}

func (p peer) speaks() []string {
	if p.protocols == nil {
		return tcpProtocols
	}
	return p.protocols
}

type halfClose int

const (
	answersAll   halfClose = iota // the whole answer
	answersSmall                  // what fits into the socket's buffer
	answersNone                   // the connection may be closed first
)

func peers() []peer { return append(tcpPeers(), wsPeers()...) }

func tcpPeers() []peer {
	return []peer{
		{
			name:      "gnet-1",
			how:       "gnet v2.9.7, " + gnetBuild + ", GOMAXPROCS = loops (its better one at one connection); level-triggered, SO_REUSEPORT so that a loop accepts for itself, Next(-1) and Write on the loop without a copy, 256 KiB read buffer a loop (its own 64 KiB cost more in bulk)",
			serve:     func(cfg config) error { return serveGnet(cfg, cfg.loops) },
			halfClose: answersSmall,
		},
		{
			name:      "gnet-2",
			how:       "gnet v2.9.7, " + gnetBuild + ", GOMAXPROCS = loops + 1 (its better one at many connections); else as gnet-1",
			serve:     func(cfg config) error { return serveGnet(cfg, cfg.loops+1) },
			halfClose: answersSmall,
		},
		{
			name:      "nbio",
			how:       "nbio v1.6.8, NPoller = loops, level-triggered, reading and handler on the poller, Write without a copy of our own, 256 KiB read buffer a poller (its own 64 KiB cost more in bulk), GOMAXPROCS = loops + 1 (cheaper than loops)",
			serve:     serveNbio,
			halfClose: answersSmall,
		},
		{
			name:      "netpoll",
			how:       "netpoll v0.7.2, pollers = loops, gopool off as its guide says for handlers that do not grow the stack, Next and WriteBinary (in place above 4 KiB) then Flush and Release, GOMAXPROCS = loops (one more costs half as much again at one connection)",
			serve:     serveNetpoll,
			halfClose: answersNone,
		},
		{
			name:      "net",
			how:       "package net, a goroutine a connection, Read and Write with a buffer that grows from 4 to 256 KiB while reads fill it, GOMAXPROCS = loops",
			serve:     serveNet,
			halfClose: answersAll,
		},
		reference("c-uring", "uring.c",
			"C on io_uring (liburing): multishot accept and receive, one ring of 512 buffers of 64 KiB, DEFER_TASKRUN, one submit-and-wait a turn, the received buffer moved into a SEND with completion"),
		reference("c-uring-opt", "uring.c",
			"as c-uring with optimistic sends: MSG_DONTWAIT and MSG_WAITALL, no completion when all was taken, what is left sent the ordinary way, one a connection a batch", "--optimistic"),
		reference("c-epoll", "epoll.c",
			"C on epoll: edge-triggered, one epoll_ctl a connection, receive until short into 256 KiB, answer directly, keep only what the socket did not take"),
	}
}

func names() []string {
	var all []string
	for _, p := range peers() {
		all = append(all, p.name)
	}
	return all
}

// loopBuffer is the read buffer where a loop has one for all its connections, in bytes.
const loopBuffer = 256 << 10

// find looks a peer up; gnet alone is the one that is better at many connections.
func find(name string) (peer, bool) {
	if name == "gnet" {
		name = "gnet-2"
	}
	for _, p := range peers() {
		if p.name == name {
			return p, true
		}
	}
	return peer{}, false
}

// subscribers is the list a publisher writes to. A reader has a snapshot, so a peer
// may close a connection and remove it while the list is being walked.
type subscribers[C comparable] struct {
	mu   sync.RWMutex
	list []C // replaced, never changed
}

func (s *subscribers[C]) add(c C) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list[:len(s.list):len(s.list)], c)
}

func (s *subscribers[C]) remove(c C) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := make([]C, 0, len(s.list))
	for _, other := range s.list {
		if other != c {
			kept = append(kept, other)
		}
	}
	s.list = kept
}

func (s *subscribers[C]) all() []C {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.list
}
