package reactor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/internal/testutil"
)

// onLoop runs fn on the loop and waits for it.
func onLoop(t *testing.T, g *Group, fn func(l *Loop)) {
	t.Helper()
	done := make(chan struct{})
	g.Loop(0).Post(func(l *Loop) {
		defer close(done)
		fn(l)
	})
	within(t, "a post", done)
}

func within[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(testutil.Timeout(10 * time.Second)):
		t.Fatalf("%s: not within %v", what, testutil.Timeout(10*time.Second))
	}
	return v
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newPipe(t *testing.T) (r, w int) {
	t.Helper()
	var p [2]int
	must(t, unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK))
	return p[0], p[1]
}

func write(t *testing.T, fd int, b ...byte) {
	t.Helper()
	_, err := unix.Write(fd, b)
	must(t, err)
}

// watched is a descriptor that becomes readable by fire.
type watched struct {
	fd   int
	fire func()
	text func(b []byte) bool // what reading it must give
	also []int               // descriptors to close at the end
}

func watchables(t *testing.T) map[string]watched {
	r, w := newPipe(t)
	counter, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	must(t, err)
	clock, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	must(t, err)
	eyes, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	must(t, err)
	dir := t.TempDir()
	_, err = unix.InotifyAddWatch(eyes, dir, unix.IN_CREATE)
	must(t, err)
	eight := func(b []byte) bool { return len(b) == 8 && b[0] == 1 }
	files := 0
	return map[string]watched{
		"pipe": {fd: r, fire: func() { write(t, w, 'x') }, text: func(b []byte) bool { return string(b) == "x" }, also: []int{w}},
		"eventfd": {fd: counter, text: eight, fire: func() {
			write(t, counter, 1, 0, 0, 0, 0, 0, 0, 0)
		}},
		"timerfd": {fd: clock, text: eight, fire: func() {
			must(t, unix.TimerfdSettime(clock, 0, &unix.ItimerSpec{Value: unix.Timespec{Nsec: 1e6}}, nil))
		}},
		"inotify": {fd: eyes, text: func(b []byte) bool { return strings.Contains(string(b), "new file") }, fire: func() {
			files++
			must(t, os.WriteFile(filepath.Join(dir, "new file"+strings.Repeat("s", files)), nil, 0o600))
		}},
	}
}

// TestWatch: a callback for each event of each kind of descriptor, none after Stop.
func TestWatch(t *testing.T) {
	onEngines(t, 1, func(t *testing.T, g *Group) {
		for name, d := range watchables(t) {
			calls := make(chan []byte, 10)
			var w *Watch
			onLoop(t, g, func(l *Loop) {
				w = l.Watch(d.fd, unix.POLLIN, func(ready uint32, err error) {
					if ready != unix.POLLIN || err != nil {
						t.Errorf("%s: ready %#x, %v", name, ready, err)
					}
					b := make([]byte, 1000)
					n, err := unix.Read(d.fd, b)
					if err != nil {
						t.Errorf("%s: read: %v", name, err)
					}
					calls <- b[:max(0, n)]
				})
			})
			for range 3 {
				d.fire()
				if b := within(t, name, calls); !d.text(b) {
					t.Errorf("%s: read %q", name, b)
				}
			}
			onLoop(t, g, func(l *Loop) {
				if l.stats().Watches != 1 || !w.Stop() || w.Stop() || l.stats().Watches != 0 {
					t.Errorf("%s: Stop does not say whether it was a watch, or leaves one", name)
				}
			})
			d.fire()
			time.Sleep(5 * time.Millisecond)
			onLoop(t, g, func(*Loop) {})
			if len(calls) != 0 {
				t.Errorf("%s: called after Stop", name)
			}
			for _, fd := range append(d.also, d.fd) {
				must(t, unix.Close(fd))
			}
		}
	})
}

// TestWatchIsLevelTriggered: what is not read calls again, and a turn between serves
// others.
func TestWatchIsLevelTriggered(t *testing.T) {
	onEngines(t, 1, func(t *testing.T, g *Group) {
		r, w := newPipe(t)
		write(t, w, []byte("abcde")...)
		done := make(chan string)
		onLoop(t, g, func(l *Loop) {
			text, turns := "", l.turns
			var watch *Watch
			watch = l.Watch(r, unix.POLLIN, func(uint32, error) {
				if l.turns == turns {
					t.Error("called twice in one turn")
				}
				turns = l.turns
				b := make([]byte, 1)
				_, err := unix.Read(r, b)
				if text += string(b); len(text) == 5 || err != nil {
					watch.Stop()
					done <- text
				}
			})
		})
		if text := within(t, "five calls", done); text != "abcde" {
			t.Errorf("read %q", text)
		}
		unix.Close(r)
		unix.Close(w)
	})
}

// TestWatchEnds: the writer of a pipe goes, and the reader of another; POLLHUP and
// POLLERR come unasked.
func TestWatchEnds(t *testing.T) {
	onEngines(t, 1, func(t *testing.T, g *Group) {
		for _, c := range []struct {
			watchReader bool
			events      uint32
			want        uint32
		}{{true, unix.POLLIN, unix.POLLHUP}, {true, 0, unix.POLLHUP}, {false, 0, unix.POLLERR}, {false, unix.POLLOUT, unix.POLLOUT}} {
			r, w := newPipe(t)
			watch, closed := r, w
			if !c.watchReader {
				watch, closed = w, r
			}
			ended := make(chan uint32, 1)
			onLoop(t, g, func(l *Loop) {
				var it *Watch
				it = l.Watch(watch, c.events, func(ready uint32, err error) {
					it.Stop()
					unix.Close(watch)
					ended <- ready
				})
			})
			unix.Close(closed)
			if ready := within(t, "the end", ended); ready&c.want == 0 {
				t.Errorf("%+v: ready %#x", c, ready)
			}
		}
	})
}

// TestWatchStopsInside stops a watch in its own callback, twice, closes the
// descriptor there, and opens another one that gets its number: the new watch hears
// of the new one only.
func TestWatchStopsInside(t *testing.T) {
	onEngines(t, 1, func(t *testing.T, g *Group) {
		const rounds = 50
		done := make(chan struct{})
		var order []string
		var start func(l *Loop, round int)
		start = func(l *Loop, round int) {
			if round == rounds {
				close(done)
				return
			}
			r, w := newPipe(t)
			write(t, w, byte(round))
			calls := 0
			var it *Watch
			it = l.Watch(r, unix.POLLIN, func(ready uint32, err error) {
				b := make([]byte, 2)
				n, rerr := unix.Read(r, b)
				if calls++; calls > 1 || err != nil || n != 1 || b[0] != byte(round) {
					t.Errorf("round %d, call %d: ready %#x, %v; read %d bytes %v, %v", round, calls, ready, err, n, b, rerr)
				}
				if !it.Stop() || it.Stop() {
					t.Error("Stop inside does not say that it was a watch, or says it twice")
				}
				unix.Close(r)
				unix.Close(w)
				start(l, round+1)
			})
			order = append(order, "watched")
		}
		onLoop(t, g, func(l *Loop) { start(l, 0) })
		within(t, "all rounds", done)
		onLoop(t, g, func(l *Loop) {
			if l.watches != 0 || len(order) != rounds {
				t.Errorf("%d watches are left behind %d", l.watches, len(order))
			}
		})
	})
}

// TestWatchStopBeforeItFires: ready, and stopped by a callback of the same turn.
func TestWatchStopBeforeItFires(t *testing.T) {
	onEngines(t, 1, func(t *testing.T, g *Group) {
		for range 50 {
			r1, w1 := newPipe(t)
			r2, w2 := newPipe(t)
			calls := make(chan struct{}, 10)
			onLoop(t, g, func(l *Loop) {
				var a, b *Watch
				fn := func(uint32, error) {
					a.Stop()
					b.Stop()
					calls <- struct{}{}
				}
				a, b = l.Watch(r1, unix.POLLIN, fn), l.Watch(r2, unix.POLLIN, fn)
				write(t, w1, 1)
				write(t, w2, 1)
			})
			within(t, "a call", calls)
			onLoop(t, g, func(*Loop) {})
			if len(calls) != 0 {
				t.Fatal("both were called")
			}
			for _, fd := range []int{r1, w1, r2, w2} {
				must(t, unix.Close(fd))
			}
		}
	})
}

// TestWatchStopLetsGo: a descriptor that is closed behind Stop is gone, although the
// kernel was waiting for it.
func TestWatchStopLetsGo(t *testing.T) {
	onEngines(t, 1, func(t *testing.T, g *Group) {
		r, w := newPipe(t)
		var watch *Watch
		onLoop(t, g, func(l *Loop) {
			watch = l.Watch(r, unix.POLLIN, func(uint32, error) { t.Error("called") })
		})
		onLoop(t, g, func(l *Loop) { // The loop has slept between: the kernel has the poll.
			watch.Stop()
			must(t, unix.Close(r))
		})
		testutil.Eventually(t, 10*time.Second, "nobody reads the pipe", func() bool {
			p := []unix.PollFd{{Fd: int32(w)}}
			_, err := unix.Poll(p, 0)
			return err == nil && p[0].Revents&unix.POLLERR != 0
		})
		must(t, unix.Close(w))
	})
}

// TestWatchPanics: a panic ends that watch; the other one, a timer and the loop go on.
func TestWatchPanics(t *testing.T) {
	onEngines(t, 1, func(t *testing.T, g *Group) {
		r1, w1 := newPipe(t)
		r2, w2 := newPipe(t)
		calls := make(chan string, 100)
		onLoop(t, g, func(l *Loop) {
			l.Watch(r1, unix.POLLIN, func(uint32, error) {
				calls <- "bad"
				panic("in a watch")
			})
			l.Watch(r2, unix.POLLIN, func(uint32, error) {
				_, _ = unix.Read(r2, make([]byte, 10))
				calls <- "good"
			})
		})
		write(t, w1, 1)
		if got := within(t, "the first", calls); got != "bad" {
			t.Error(got)
		}
		for range 5 {
			write(t, w2, 1)
			if got := within(t, "the other", calls); got != "good" {
				t.Errorf("%q: the watch that panicked was called again", got)
			}
		}
		onLoop(t, g, func(l *Loop) {
			if l.watches != 1 || l.panics != 1 {
				t.Errorf("%d watches, %d panics", l.watches, l.panics)
			}
		})
		if err := g.Close(); err != nil { // With a watch on it.
			t.Error(err)
		}
		for _, fd := range []int{r1, w1, r2, w2} {
			must(t, unix.Close(fd))
		}
	})
}

// TestWatchRefuses tells of what cannot be watched once, and not inside Watch.
func TestWatchRefuses(t *testing.T) {
	onEngines(t, 1, func(t *testing.T, g *Group) {
		file, err := os.Create(filepath.Join(t.TempDir(), "f"))
		must(t, err)
		defer file.Close()
		dir, err := os.Open(t.TempDir())
		must(t, err)
		defer dir.Close()
		errs := make(chan error, 10)
		onLoop(t, g, func(l *Loop) {
			for _, fd := range []int{int(file.Fd()), int(dir.Fd()), 1 << 20, -1} {
				inside := true
				w := l.Watch(fd, unix.POLLIN, func(ready uint32, err error) {
					if inside || ready != 0 {
						t.Errorf("inside %v, ready %#x", inside, ready)
					}
					errs <- err
				})
				inside = false
				if fd == -1 && !w.Stop() {
					t.Error("Stop came too late")
				}
			}
		})
		for _, want := range []error{syscall.EPERM, syscall.EPERM, syscall.EBADF} {
			if err := within(t, "an error", errs); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		}
		onLoop(t, g, func(l *Loop) {
			if l.watches != 0 || len(errs) != 0 {
				t.Errorf("%d watches, %d errors too many", l.watches, len(errs))
			}
		})
	})
}

// TestWatchServesUntilTheEnd: a watch does not keep a loop alive, and is served
// while a party still flushes.
func TestWatchServesUntilTheEnd(t *testing.T) {
	onEngines(t, 1, func(t *testing.T, g *Group) {
		r, w := newPipe(t)
		var calls []byte
		onLoop(t, g, func(l *Loop) {
			s := &sink{}
			token := l.Attach(s)
			s.detach = func() { write(t, w, 'x') }
			l.Watch(r, unix.POLLIN, func(uint32, error) {
				b := make([]byte, 1)
				_, _ = unix.Read(r, b)
				calls = append(calls, b...)
				l.Detach(token)
			})
		})
		must(t, g.Shutdown(context.Background()))
		if !slices.Equal(calls, []byte("x")) {
			t.Errorf("called with %q", calls)
		}
		must(t, unix.Close(r))
		must(t, unix.Close(w))
	})
}
