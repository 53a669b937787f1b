package main

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"syscall"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// gnetServer answers on the loop. What Next(-1) returns is gnet's own read buffer, and
// Write copies only what the socket did not take.
type gnetServer struct {
	gnet.BuiltinEventEngine
	cfg  config
	subs subscribers[gnet.Conn]
}

func serveGnet(cfg config, procs int) error {
	runtime.GOMAXPROCS(procs)
	addr, release, err := reservePort(cfg)
	if err != nil {
		return err
	}
	defer release()
	return gnet.Run(&gnetServer{cfg: cfg}, "tcp://"+addr,
		gnet.WithNumEventLoop(cfg.loops),
		gnet.WithReusePort(true),
		gnet.WithTCPNoDelay(gnet.TCPNoDelay),
		gnet.WithReadBufferCap(cmp.Or(cfg.buffer, loopBuffer)),
		gnet.WithLogger(gnetErrors{}),
	)
}

// gnetErrors takes the place of gnet's logger, which writes to standard output.
type gnetErrors struct{}

func (gnetErrors) Debugf(string, ...any) {}
func (gnetErrors) Infof(string, ...any)  {}
func (gnetErrors) Warnf(string, ...any)  {}

func (gnetErrors) Errorf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "compare: gnet: "+format+"\n", args...)
}

func (l gnetErrors) Fatalf(format string, args ...any) {
	l.Errorf(format, args...)
	os.Exit(1)
}

// reservePort picks a port when none is given and keeps it: with SO_REUSEPORT each loop
// has a listener of its own, which with port 0 would each get another one.
func reservePort(cfg config) (addr string, release func(), err error) {
	tcp, err := net.ResolveTCPAddr("tcp", cfg.addr)
	if err != nil || tcp.Port != 0 || cfg.loops == 1 {
		return cfg.addr, func() {}, err
	}
	var sockaddr unix.Sockaddr
	domain := unix.AF_INET
	if ip4 := tcp.IP.To4(); ip4 != nil {
		sockaddr = &unix.SockaddrInet4{Addr: [4]byte(ip4)}
	} else {
		domain, sockaddr = unix.AF_INET6, &unix.SockaddrInet6{Addr: [16]byte(tcp.IP.To16())}
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM, 0)
	if err != nil {
		return "", nil, os.NewSyscallError("socket", err)
	}
	release = func() { _ = unix.Close(fd) }
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err == nil {
		err = unix.Bind(fd, sockaddr) // bound and not listening: it gets no connection
	}
	if err != nil {
		release()
		return "", nil, os.NewSyscallError("bind", err)
	}
	if tcp.Port, err = boundPort(fd); err != nil {
		release()
		return "", nil, err
	}
	return tcp.String(), release, nil
}

func boundPort(fd int) (int, error) {
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	switch sa := bound.(type) {
	case *unix.SockaddrInet4:
		return sa.Port, nil
	case *unix.SockaddrInet6:
		return sa.Port, nil
	}
	return 0, fmt.Errorf("getsockname: %T", bound)
}

// OnBoot comes when the listener listens; the kernel queues who connects meanwhile.
func (s *gnetServer) OnBoot(eng gnet.Engine) gnet.Action {
	fd, err := eng.Dup()
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare: gnet:", err)
		return gnet.Shutdown
	}
	defer func() { _ = syscall.Close(fd) }()
	port, err := boundPort(fd)
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare: gnet:", err)
		return gnet.Shutdown
	}
	addr, _ := net.ResolveTCPAddr("tcp", s.cfg.addr)
	addr.Port = port
	announce(s.cfg, addr)
	return gnet.None
}

func (s *gnetServer) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	if s.cfg.fanout {
		c.SetContext(new(member))
	}
	return nil, gnet.None
}

func (s *gnetServer) OnClose(c gnet.Conn, _ error) gnet.Action {
	if m, ok := c.Context().(*member); ok && m.role == subscriber {
		s.subs.remove(c)
	}
	return gnet.None
}

func (s *gnetServer) OnTraffic(c gnet.Conn) gnet.Action {
	in, _ := c.Next(-1)
	if !s.cfg.fanout {
		_, _ = c.Write(in)
		return gnet.None
	}
	m := c.Context().(*member)
	if m.feed(in, func() { s.subs.add(c) }, s.publish) != nil {
		return gnet.Close
	}
	return gnet.None
}

// publish writes directly where all connections live on one loop. Elsewhere it has to go
// through the other loops' queues, which keep the payload: one copy for all.
func (s *gnetServer) publish(payload []byte) {
	if s.cfg.loops == 1 {
		for _, c := range s.subs.all() {
			_, _ = c.Write(payload)
		}
		return
	}
	payload = slices.Clone(payload)
	for _, c := range s.subs.all() {
		_ = c.AsyncWrite(payload, nil)
	}
}
