package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/penstock-go/penstock/conn"
)

// Descriptors that --max-conns leaves to all else, beside those that are open
// when it is reckoned and those of the listeners, or a quarter of what there is;
// and how many are taken for open when that cannot be told.
const (
	spareFDs = 8
	usualFDs = 24
)

// limit returns the limit of connections, which all listeners share: n, or what
// the limit on descriptors leaves.
func (s *server) limit(n int, endpoints []endpoint) (*conn.ConnLimit, error) {
	streams, sockets := 0, 0
	for _, e := range endpoints {
		if sockets++; e.network != "unix" { // One for each loop.
			sockets += s.group.Len() - 1
		}
		if e.network != "udp" {
			streams++
		}
	}
	if streams == 0 {
		return nil, nil // There are no connections.
	}
	if n == 0 {
		open := usualFDs
		if list, err := os.ReadDir("/proc/self/fd"); err == nil {
			open = len(list)
		}
		var files syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
			return nil, os.NewSyscallError("getrlimit", err)
		}
		if n = int(min(files.Cur, 1<<30)) - open - sockets; n < 1 {
			return nil, fmt.Errorf("the limit of %d descriptors leaves none for connections: raise it (ulimit -n), or take fewer loops with --loops", files.Cur)
		}
		n -= min(spareFDs, n/4)
	}
	return conn.NewConnLimit(n)
}

// listen opens one listener.
func (s *server) listen(e endpoint, k kind, cfg conn.Config) error {
	at, err := s.open(e, k, cfg)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w%s", e.flag, err, cure(e, err))
	}
	info := s.group.Info()
	s.lines = append(s.lines, fmt.Sprintf("listening on %s://%s engine=%s loops=%d\n", e.network, at, info.Engine, info.Loops))
	return nil
}

func (s *server) open(e endpoint, k kind, cfg conn.Config) (conn.Addr, error) {
	if e.network == "udp" {
		l, err := conn.ListenPacket(s.group, e.network, e.address, k.packets, conn.PacketConfig{
			HighWater: cfg.HighWater, LowWater: cfg.LowWater, Limit: cfg.Limit,
			PauseOnFull: cfg.PauseOnFull, CloseTimeout: cfg.CloseTimeout, Budget: cfg.Budget,
		})
		if err != nil {
			return conn.Addr{}, err
		}
		return l.Addr(), nil
	}
	l, err := conn.Listen(s.group, e.network, e.address, k.handler, cfg)
	if err != nil {
		return conn.Addr{}, err
	}
	return l.Addr(), nil
}

// cure says what helps against a failure to listen.
func cure(e endpoint, err error) string {
	file := e.network == "unix" && e.address[0] == '/'
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && e.network == "unix":
		return ": stop the process that listens there, or choose another name with --listen"
	case errors.Is(err, syscall.EADDRINUSE):
		return ": stop the process that listens there, or choose another address with --listen (port 0 takes a free one)"
	case errors.Is(err, syscall.EEXIST):
		return ": it is left as it is; choose another path with --listen"
	case file && (errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EROFS)):
		return ": choose a path in a directory that this user may write to"
	case file && (errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR)):
		return ": make the directory, or choose a path in one that is there"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return ": choose a port from 1024 on, or grant CAP_NET_BIND_SERVICE"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return ": choose an address that this host has, or 0.0.0.0 or [::] for all"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return ": raise the limit on descriptors (ulimit -n)"
	case errors.Is(err, syscall.EAFNOSUPPORT):
		return ": choose an address of a family that this host has"
	}
	return ": choose another address with --listen"
}
