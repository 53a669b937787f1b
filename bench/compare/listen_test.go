package main

import (
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestListen sees plain TCP, and of the options that package net sets the one that counts.
func TestListen(t *testing.T) {
	l, err := listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	option := func(of syscall.Conn, level, name int) (v int) {
		t.Helper()
		raw, err := of.SyscallConn()
		if err == nil {
			_ = raw.Control(func(fd uintptr) { v, err = unix.GetsockoptInt(int(fd), level, name) })
		}
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if got := option(l.(*net.TCPListener), unix.SOL_SOCKET, unix.SO_PROTOCOL); got != unix.IPPROTO_TCP {
		t.Errorf("protocol %d", got)
	}
	if got := option(s.(*net.TCPConn), unix.SOL_SOCKET, unix.SO_KEEPALIVE); got != 0 {
		t.Errorf("keep-alive %d", got)
	}
	if got := option(s.(*net.TCPConn), unix.IPPROTO_TCP, unix.TCP_NODELAY); got == 0 {
		t.Error("no TCP_NODELAY")
	}
}
