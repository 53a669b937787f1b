package reactor

import (
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio"
)

// TestHeldUp has a loop stand still until a timer is long due, while bytes come for more
// parties than a turn hears: all of them are heard before the timer runs.
func TestHeldUp(t *testing.T) {
	l, fake := handLoop(t)
	held := time.Duration(0)
	clock := l.clock
	l.clock = func() time.Duration { return held + clock() }
	heard := 0
	const parties = 3 * batch
	peers := make([]interface{ Feed([]byte) }, parties)
	for i := range peers {
		fd, peer := fake.Open()
		peers[i] = peer
		s := &sink{complete: func(c *aio.Completion) { heard++ }}
		l.Submit(&aio.Op{Token: l.Attach(s), Kind: aio.Recv, FD: fd})
	}
	ran := 0
	for range 10 {
		l.AfterFunc(100*time.Millisecond, nil, func() {
			if ran++; heard < parties {
				t.Errorf("a timer ran when %d of %d were heard", heard, parties)
			}
		})
	}
	if err := l.Turn(0); err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		p.Feed([]byte("x"))
	}
	held = time.Second
	turnUntil(t, l, "the timers", func() bool { return ran == 10 })
}

// TestHeldUpNoLonger holds that timers wait for as long as the loop was held up where there
// is always more, also behind a Wait that the alarm has ended with nothing, and no longer;
// one that is due meanwhile runs with them.
func TestHeldUpNoLonger(t *testing.T) {
	l, b := busyLoop(t)
	const held = 20 * time.Millisecond
	var ran [2]time.Duration
	l.AfterFunc(time.Second, nil, func() { ran[0] = b.now })
	l.AfterFunc(time.Second+held+held/2, nil, func() { ran[1] = b.now })
	turn(t, l, 3)
	due := b.now + time.Second
	b.now = due + held
	for ran[0] == 0 || ran[1] == 0 {
		if turn(t, l, 1); b.now > due+4*held {
			t.Fatalf("at %v they ran at %v", b.now-due, ran)
		}
	}
	for i, at := range ran {
		if late := at - due; late < 2*held || late > 2*held+2*time.Millisecond {
			t.Errorf("timer %d ran %v behind the time of the first", i, late)
		}
	}
}

// TestHeldUpAgain holds that a loop which was held up, and whose timers were all stopped
// by what had come, hears what has come the next time too.
func TestHeldUpAgain(t *testing.T) {
	l, b := busyLoop(t)
	tm := l.AfterFunc(time.Second, nil, func() { t.Error("a stopped timer ran") })
	turn(t, l, 3)
	b.now += 2 * time.Second
	turn(t, l, 1)
	tm.Stop()
	turn(t, l, 3)
	ran := false
	b.now += time.Hour
	l.nowValid = false
	l.AfterFunc(time.Second, nil, func() { ran = true })
	turn(t, l, 3)
	b.now += 2 * time.Second
	if turn(t, l, 3); ran {
		t.Error("a timer did not wait for what had come")
	}
}
