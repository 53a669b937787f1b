package aiotest

import (
	"io"
	"testing"
)

// network makes connections whose one end is for the engine and whose other
// end is the test's. No method blocks.
type network interface {
	// name is "fake", "unix" or "tcp".
	name() string
	pair(tb testing.TB) (fd int32, far farEnd)
	listen(tb testing.TB) (fd int32, dial func() farEnd)
	// closed reports whether fd is no longer open.
	closed(fd int32) bool
	// release closes fd without the engine.
	release(fd int32)
	shutdownWrite(fd int32) error
	// others are descriptors that are not stream sockets, by name; none on a fake.
	others(tb testing.TB) map[string]other
	// connecting is a socket whose connect(2) is on its way; nil on a fake.
	connecting(tb testing.TB) (fd int32, far func() farEnd)
	// withoutDescriptors runs f while the process cannot open another one.
	withoutDescriptors(tb testing.TB, f func())
}

// farEnd is the peer of a connection.
type farEnd interface {
	write(b []byte) int         // returns what was taken
	read(b []byte) (int, error) // 0 and nil when nothing waits
	closeWrite()
	reset()
	close()
}

// other is a descriptor that becomes ready for one of events by fire, and is no
// longer ready after calm.
type other struct {
	fd         int32
	events     uint32
	fire, calm func()
}

// fakeNet is the network of a Fake.
type fakeNet struct{ f *Fake }

func (n fakeNet) name() string { return "fake" }

func (n fakeNet) pair(testing.TB) (int32, farEnd) {
	fd, p := n.f.Open()
	return fd, fakePeer{p}
}

func (n fakeNet) listen(testing.TB) (int32, func() farEnd) {
	fd, l := n.f.Listen()
	return fd, func() farEnd { return fakePeer{l.Dial()} }
}

func (n fakeNet) closed(fd int32) bool { return n.f.socks[fd-firstFD].closed }

func (n fakeNet) release(fd int32) { n.f.shut(n.f.socks[fd-firstFD]) }

func (n fakeNet) shutdownWrite(fd int32) error { return n.f.Shutdown(fd, 1) }

func (n fakeNet) others(testing.TB) map[string]other { return nil }

func (n fakeNet) connecting(testing.TB) (int32, func() farEnd) { return -1, nil }

func (n fakeNet) withoutDescriptors(_ testing.TB, f func()) {
	old := n.f.cfg.AcceptError
	n.f.cfg.AcceptError = 1
	f()
	n.f.cfg.AcceptError = old
}

type fakePeer struct{ p *Peer }

func (f fakePeer) write(b []byte) int {
	f.p.Feed(b)
	return len(b)
}

func (f fakePeer) read(b []byte) (int, error) {
	n, err := f.p.Read(b)
	if err != nil && f.p.EOF() {
		err = io.EOF
	}
	return n, err
}

func (f fakePeer) closeWrite() { f.p.CloseWrite() }
func (f fakePeer) reset()      { f.p.Reset() }
func (f fakePeer) close()      { f.p.Close() }
