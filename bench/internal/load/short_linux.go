package load

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/bench/internal/pattern"
)

// short is a worker whose connections live for one echo.
type short struct {
	*worker
	dialer  *dialer
	pattern *pattern.Pattern
	places  []place
	next    int // number of the next connection
	step    int // between the numbers of this thread
	ended   int // places that are empty after the stop
}

// place is one connection at a time.
type place struct {
	fd       int // -1: none
	stream   pattern.Stream
	began    int64
	sent     int
	received int
}

func newShort(w *worker, d *dialer, p *pattern.Pattern, conns, first, step int) *short {
	s := &short{worker: w, dialer: d, pattern: p, next: first, step: step}
	for range conns {
		s.places = append(s.places, place{fd: -1})
	}
	return s
}

func (s *short) run() error {
	defer s.closePlaces()
	for i := range s.places {
		if err := s.connect(i); err != nil {
			return err
		}
	}
	for s.ended < len(s.places) {
		n, err := s.wait(never)
		if err != nil {
			return err
		}
		for _, ev := range s.events[:n] {
			if err := s.advance(int(ev.Fd), ev.Events); err != nil {
				return err
			}
		}
		if now := s.now(); now >= s.win.stop.Load()+int64(s.spec.Drain) {
			return fmt.Errorf("%d short connections had no answer %v after the end", len(s.places)-s.ended, s.spec.Drain)
		}
	}
	return nil
}

func (s *short) closePlaces() {
	for i := range s.places {
		if fd := s.places[i].fd; fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// connect begins the next connection of a place.
func (s *short) connect(i int) error {
	p := &s.places[i]
	*p = place{fd: -1, stream: s.pattern.Stream(s.next), began: s.now()}
	s.next += s.step
	var err error
	for range sources { // An address whose ports are all in use has to wait.
		if p.fd, err = s.dialer.socket(unix.SOCK_NONBLOCK, 1+s.next%sources); err != nil {
			return err
		}
		err = unix.Connect(p.fd, s.dialer.address())
		if !errors.Is(err, unix.EADDRNOTAVAIL) {
			break
		}
		_ = unix.Close(p.fd)
		p.fd = -1
		s.next += s.step
	}
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("%w tcp://%s: %w", ErrReach, s.dialer.to, err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET&0xffffffff, Fd: int32(i)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, p.fd, &ev))
}

// advance takes a connection as far as it goes now.
func (s *short) advance(i int, events uint32) error {
	p := &s.places[i]
	if p.sent == 0 && events&unix.EPOLLOUT != 0 {
		n, err := unix.Write(p.fd, p.stream.At(0, s.spec.Size))
		if err != nil {
			return fmt.Errorf("short connection: %w", os.NewSyscallError("write", err))
		}
		p.sent = n // A new socket has room for all of it.
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
		return nil
	}
	n, err := unix.Read(p.fd, s.in)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return nil
	case err != nil:
		return fmt.Errorf("short connection: %w", os.NewSyscallError("read", err))
	case n == 0:
		return fmt.Errorf("short connection, after %d bytes back: %w", p.received, errClosed)
	}
	if bad := p.stream.Check(int64(p.received), s.in[:n]); bad >= 0 || p.received+n > p.sent {
		return fmt.Errorf("short connection: what came back is not what was sent, at %d", p.received+max(bad, 0))
	}
	p.received += n
	s.checked.Add(int64(n))
	if p.received < s.spec.Size {
		return nil
	}
	return s.done(i)
}

// done ends a connection and begins the next.
func (s *short) done(i int) error {
	p := &s.places[i]
	err := unix.Close(p.fd)
	p.fd = -1
	now := s.now()
	s.record(now, p.began, now)
	if err != nil {
		return os.NewSyscallError("close", err)
	}
	if now >= s.win.stop.Load() {
		s.ended++
		return nil
	}
	return s.connect(i)
}
