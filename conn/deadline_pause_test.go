package conn_test

import (
	"testing"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
)

// TestDeadlineInPause has the timer of a deadline run between a pause and its end, all in
// one turn: the deadline counts from then on, and runs out in the silence that follows.
func TestDeadlineInPause(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg    conn.Config
		reason conn.Reason
		pause  func(r *rig, c *conn.Conn)
	}{
		"read": {conn.Config{ReadTimeout: 50 * ms}, conn.ReadTimeout, func(_ *rig, c *conn.Conn) {
			c.PauseRead()
			c.Loop().Defer(c.ResumeRead)
		}},
		"work": {conn.Config{IdleTimeout: 50 * ms}, conn.IdleTimeout, func(r *rig, c *conn.Conn) {
			c.Go(func() {}, func(*conn.Conn) {})
			for r.runWork() {
			}
		}},
		"set in work": {conn.Config{}, conn.IdleTimeout, func(r *rig, c *conn.Conn) {
			c.Go(func() {}, func(*conn.Conn) {})
			if err := c.SetDeadlines(conn.Deadlines{Idle: 50 * ms}); err != nil {
				t.Error(err)
			}
			for r.runWork() {
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1000, tc.cfg, nil)
			r.onData = func(c *conn.Conn, _ *buf.Buf) { tc.pause(r, c) }
			for end := r.Now + 55*ms; r.Now < end; {
				if r.Now > end-15*ms { // In each turn, so also in that of the timer.
					r.peer.Feed([]byte("x"))
				}
				r.Turn()
			}
			r.wantEnd(tc.reason, r.Now-ms+50*ms)
		})
	}
}

// TestReadTimeoutBehindPause has somebody else's hook end a pause in the turn in which the
// deadline of before it is due: it counts from the end of the pause.
func TestReadTimeoutBehindPause(t *testing.T) {
	r := newRig(t, 1000, conn.Config{ReadTimeout: 50 * ms}, nil)
	due := r.Now - ms + 50*ms
	s := r.second(conn.Config{}, nil)
	s.onData = func(*conn.Conn, *buf.Buf) {
		if r.Now >= due {
			r.c.ResumeRead()
		}
	}
	r.until(due - 30*ms)
	r.do(func(c *conn.Conn) { c.PauseRead() })
	var resumed = due
	for r.Now <= due {
		resumed = r.Now
		s.peer.Feed([]byte("x"))
		r.Turn()
	}
	if r.isClosed() {
		t.Fatal("closed in the turn in which it went on to read")
	}
	s.c.Abort()
	r.wantEnd(conn.ReadTimeout, resumed+50*ms)
}

// TestWriteTimeoutOfNothing has a message through a Ref come to nothing behind the last
// send: with nothing pending no write deadline runs out.
func TestWriteTimeoutOfNothing(t *testing.T) {
	r := newRig(t, 1000, conn.Config{WriteTimeout: 50 * ms}, nil)
	r.peer.AutoRead(true)
	if err := r.write(1); err != nil {
		t.Fatal(err)
	}
	for range 5 { // In one of them the completion of the send is told.
		r.c.Ref().WriteVia([]byte("dropped"), 0, via(func(*conn.Conn, []byte) {}))
		r.Turn()
	}
	r.until(r.Now + 1000*ms)
	if r.isClosed() {
		t.Fatalf("closed with %v, and nothing was pending", r.err)
	}
	r.c.Abort()
	r.gone()
}
