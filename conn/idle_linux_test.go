package conn_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/invariants"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// TestRecord holds the size of a connection: the allocator rounds 177 bytes up to 192.
func TestRecord(t *testing.T) {
	if conn.RecordBytes > 176 {
		t.Errorf("a Conn has %d bytes: what few connections need belongs into beside", conn.RecordBytes)
	}
}

// TestIdleMemory holds what a connection costs that is open and silent, before and
// after an echo: its record and its slots, and no garbage on the way there, which
// would be resident until the next collection. A crowd that comes in the place of
// another finds all that is not the records themselves.
func TestIdleMemory(t *testing.T) {
	if invariants.Enabled {
		return // The detector allocates.
	}
	const (
		peers = 2000
		slots = 60 // at most, of the loop and the engine
		own   = 48 // of the test, for a dial
	)
	record := conn.RecordBytes
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		l := listen(t, g, echo(), conn.Config{})
		at, fds, ask, answer := rawAddr(l), make([]int, 0, peers), []byte("ping"), make([]byte, 4)
		hangUp := func() {
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
			fds = fds[:0]
			testutil.Eventually(t, 10*time.Second, "close", func() bool { return l.Stats().Open == 0 })
		}
		defer hangUp()
		come := func(n int) {
			for range n {
				fd := rawDial(t, at)
				fds = append(fds, fd)
				roundTrip(t, fd, ask, answer)
			}
		}
		come(64) // What a loop needs once.
		hangUp()
		empty := testutil.Heap()
		for crowd := range 3 {
			before, _ := testutil.Allocated()
			come(peers)
			live := testutil.Heap()
			ever, _ := testutil.Allocated()
			each, made := (live-empty)/peers, int(ever-before)/peers
			t.Logf("crowd %d: %d bytes of heap each, of %d that were allocated", crowd, each, made)
			if each > record+slots {
				t.Errorf("crowd %d: %d bytes of heap each", crowd, each)
			}
			if made > record+slots+own || crowd > 0 && made > record+own+16 {
				t.Errorf("crowd %d: %d bytes were allocated for each", crowd, made)
			}
			hangUp()
		}
	})
}
