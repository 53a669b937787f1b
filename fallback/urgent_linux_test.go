package fallback_test

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/internal/testutil"
)

// addTCP gives b a pair that is a TCP connection over loopback.
func (b *bench) addTCP() {
	b.tb.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.tb.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		b.tb.Fatal(err)
	}
	defer far.Close()
	near, err := l.Accept()
	if err != nil {
		b.tb.Fatal(err)
	}
	defer near.Close()
	b.near, b.far = append(b.near, int32(b.dup(near))), append(b.far, b.dup(far))
}

func (b *bench) dup(c net.Conn) (fd int) {
	b.tb.Helper()
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		b.tb.Fatal(err)
	}
	defer f.Close()
	if fd, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		b.tb.Fatal(err)
	}
	return fd
}

// TestUrgentData holds that bytes behind an urgent one are received although
// recv(2) stops in front of it, which looks like a socket without more.
func TestUrgentData(t *testing.T) {
	b := newBench(t, 0, buf.Config{BlockSize: 4096})
	b.addTCP()
	const before, behind = "before", "behind"
	b.feed(0, []byte(before))
	if err := unix.Send(b.far[0], []byte("!"), unix.MSG_OOB); err != nil {
		t.Fatal(err)
	}
	b.feed(0, []byte(behind))
	// All of it must have come before the first receive: then there is no edge more.
	var fds = []unix.PollFd{{Fd: b.near[0], Events: unix.POLLPRI}}
	if _, err := unix.Poll(fds, int(testutil.Timeout(time.Second).Milliseconds())); err != nil {
		t.Fatal(err)
	}
	b.arm(0)
	var got []byte
	for deadline := time.Now().Add(testutil.Timeout(2 * time.Second)); len(got) < len(before+behind) && time.Now().Before(deadline); {
		for _, c := range b.wait(10 * time.Millisecond) {
			got = append(got, c.In.Bytes()...)
			c.In.Release()
		}
	}
	if string(got) != before+behind {
		t.Errorf("received %q, want %q", got, before+behind)
	}
}

// TestDescriptorsAmongBytes holds that bytes behind some that a descriptor came with are
// received although recvmsg(2) stops there.
func TestDescriptorsAmongBytes(t *testing.T) {
	for _, flags := range []aio.Flags{aio.Once, aio.Once | aio.Bulk, aio.Once | aio.Bulk | aio.Wide} {
		b := newBench(t, 1, buf.Config{BlockSize: 4096})
		const with, behind = "with", "behind"
		if err := unix.Sendmsg(b.far[0], []byte(with), unix.UnixRights(b.far[0]), nil, 0); err != nil {
			t.Fatal(err)
		}
		b.feed(0, []byte(behind))
		var got []byte
		armed := false
		for deadline := time.Now().Add(testutil.Timeout(2 * time.Second)); len(got) < len(with+behind) && time.Now().Before(deadline); {
			if !armed {
				armed = true
				op := b.op(0, aio.Recv)
				op.Flags = flags
				b.Submit(&op)
			}
			for _, c := range b.wait(10 * time.Millisecond) {
				got = append(got, c.In.Bytes()...)
				c.In.Release()
				armed = !c.Final
			}
		}
		if string(got) != with+behind {
			t.Errorf("flags %d: received %q, want %q", flags, got, with+behind)
		}
	}
}
