package load

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// errClosed is the end of a connection that was to go on.
var errClosed = errors.New("the server closed the connection")

// connectWithin bounds a connect: a server whose backlog is full lets it wait.
const connectWithin = 5 * time.Second

// portsEach is how many connections are made from one local address: far below
// the number of ports that the kernel gives away, since it looks for a free one
// in turn and takes long when most are in use.
const portsEach = 5_000

// sources is how many addresses of 127.0.0.0/8 connections come from in turn,
// so that the ports of those that were closed have time to be free again.
const sources = 200

// dialer makes sockets to one address.
type dialer struct {
	to       netip.AddrPort
	loopback bool
	made     int
}

func newDialer(target string) (*dialer, error) {
	addr, err := net.ResolveTCPAddr("tcp", target)
	if err != nil {
		return nil, fmt.Errorf("%w tcp://%s: %w", ErrReach, target, err)
	}
	to := addr.AddrPort()
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	return &dialer{to: to, loopback: to.Addr().Is4() && to.Addr().IsLoopback()}, nil
}

// socket makes one that is not connected. source chooses the local address.
func (d *dialer) socket(flags, source int) (int, error) {
	family := unix.AF_INET6
	if d.to.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if d.loopback && source > 0 {
		// The port is chosen by connect, which knows the other end: so every
		// port can be used once for each source.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 1, byte(source)}}); err != nil {
			_ = unix.Close(fd)
			return -1, os.NewSyscallError("bind", err)
		}
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	return fd, nil
}

func (d *dialer) address() unix.Sockaddr {
	if d.to.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(d.to.Port()), Addr: d.to.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(d.to.Port()), Addr: d.to.Addr().As16()}
}

// dial returns a connected, non-blocking socket. buffer, if not 0, is the
// size of its buffers in the kernel.
func (d *dialer) dial(buffer int) (int, error) {
	fd, err := d.socket(0, d.made/portsEach)
	if err != nil {
		return -1, err
	}
	if buffer > 0 {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, buffer)
	}
	patience := unix.NsecToTimeval(int64(connectWithin))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience)
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Connect(fd, d.address())
	}
	if err == nil || errors.Is(err, unix.EISCONN) {
		d.made++
		return fd, os.NewSyscallError("fcntl", unix.SetNonblock(fd, true))
	}
	_ = unix.Close(fd)
	if errors.Is(err, unix.EINPROGRESS) {
		return -1, fmt.Errorf("%w tcp://%s: no answer within %v", ErrReach, d.to, connectWithin)
	}
	return -1, fmt.Errorf("%w tcp://%s: %w", ErrReach, d.to, err)
}

// outOfDescriptors reports whether err says that no more sockets can be made.
func outOfDescriptors(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) ||
		errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EADDRNOTAVAIL)
}

// dialAll makes up to n connections, and a note when there cannot be so many.
func (d *dialer) dialAll(n, buffer int) (fds []int, note string, err error) {
	for len(fds) < n {
		fd, err := d.dial(buffer)
		switch {
		case err == nil:
			fds = append(fds, fd)
		case len(fds) > 0 && outOfDescriptors(err):
			return fds, fmt.Sprintf("%d connections instead of %d: %v", len(fds), n, err), nil
		default:
			closeAll(fds)
			return nil, "", err
		}
	}
	return fds, "", nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
