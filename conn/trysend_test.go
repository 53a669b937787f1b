package conn_test

import (
	"testing"

	"github.com/penstock-go/penstock/conn"
)

// TestTrySend holds that a refused TrySend leaves no trace: the block stays the
// caller's, nothing is counted, and a policy that ends slow peers does not act.
// What is taken answers as a Send does.
func TestTrySend(t *testing.T) {
	cfg := marks(100, 0, 100)
	cfg.SlowPeer = conn.CloseSlow
	r := newRig(t, 64, cfg, nil)
	r.stuff()
	for i, want := range []conn.Status{conn.Full, conn.Rejected, conn.Rejected} {
		b := r.Bulk.Get()
		b.Extend(100)
		if s := r.c.TrySend(&b); s != want || b.IsZero() != (s == conn.Full) {
			t.Fatalf("send %d: %v, want %v; the block is zero: %v", i, s, want, b.IsZero())
		}
		b.Release()
	}
	if s := r.c.Stats(); s.Rejected != 0 || s.RejectedBytes != 0 || r.isClosed() {
		t.Fatalf("%+v, closed: %v", s, r.isClosed())
	}
	for _, n := range []int{64, 64, 36} {
		r.read(n)
	}
	r.wantLog("full drain")
	r.gone()
}

// TestTrySendDropsNothing holds that DropOldest makes no room for a TrySend.
func TestTrySendDropsNothing(t *testing.T) {
	cfg := marks(100, 0, 100)
	cfg.SlowPeer = conn.DropOldest
	r := newRig(t, 64, cfg, nil)
	r.stuff()
	_ = r.write(50)
	_ = r.write(50)
	b := r.Bulk.Get()
	b.Extend(10)
	if s := r.c.TrySend(&b); s != conn.Rejected || r.c.Fits() != s || r.c.Stats().Dropped != 0 {
		t.Errorf("answered %v, Fits %v, %d messages dropped", s, r.c.Fits(), r.c.Stats().Dropped)
	}
	if s := r.c.Send(&b); s != conn.Queued || r.c.Stats().Dropped != 1 {
		t.Errorf("Send answered %v, %d messages dropped", s, r.c.Stats().Dropped)
	}
	b.Release()
	r.gone()
}
