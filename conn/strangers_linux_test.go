package conn_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/reactor"
)

// TestOneLoopOneSocket holds that with one loop nobody can listen on the same port,
// also not with SO_REUSEPORT, and get a part of what comes.
func TestOneLoopOneSocket(t *testing.T) {
	stranger := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		_ = c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return err
	}}
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		l := listen(t, g, echo(), conn.Config{})
		if s, err := stranger.Listen(context.Background(), "tcp", l.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("a stranger listens too: %v", err)
			_ = s.Close()
		}
		p := listenPacket(t, g, "udp", "127.0.0.1:0", packetEcho(), conn.PacketConfig{})
		if s, err := stranger.ListenPacket(context.Background(), "udp", p.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("a stranger receives too: %v", err)
			_ = s.Close()
		}
	})
}

// TestUnixLockedByStranger holds that who keeps the directory locked, which anybody
// can who may read it, neither stops a server nor has it leave its file behind.
func TestUnixLockedByStranger(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		dir := place(t)
		d, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		stale(t, filepath.Join(dir, "stale"))
		if _, err := conn.Listen(g, "unix", filepath.Join(dir, "stale"), echo(), conn.Config{}); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("a file was replaced without the lock: %v", err)
		}
		name := filepath.Join(dir, "socket")
		l := listenUnix(t, g, name, echo(), conn.Config{})
		_ = dialUnix(t, name)
		finished(t, l)
		if _, err := os.Lstat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the file is still there: %v", err)
		}
	})
}

// TestAttachUnconnected holds that a socket without a peer is refused, and one
// whose peer has reset it is not: its handler hears of that.
func TestAttachUnconnected(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		for _, domain := range []int{unix.AF_INET, unix.AF_INET6, unix.AF_UNIX} {
			fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				continue
			}
			defer unix.Close(fd)
			if err := conn.AttachFD(g.Loop(0), fd, echo(), conn.Config{}, nil); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("a socket of family %d without a peer: %v", domain, err)
			}
		}
		near, far := pair(t, "tcp")
		reset(far)
		p := []unix.PollFd{{Events: unix.POLLIN}}
		raw, _ := near.(syscall.Conn).SyscallConn()
		_ = raw.Control(func(fd uintptr) { p[0].Fd = int32(fd); _, _ = unix.Poll(p, 1000) })
		closed := make(chan error, 1)
		h := &conn.Funcs{Close: func(_ *conn.Conn, err error) { closed <- err }}
		if err := conn.Attach(g.Loop(0), near, h, conn.Config{}, nil); err != nil {
			t.Fatalf("a socket that was reset: %v", err)
		}
		if err := <-closed; err == nil {
			t.Error("a socket that was reset ended in order")
		}
	})
}
