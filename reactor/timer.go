package reactor

import (
	"math"
	"math/bits"
	"time"
)

// The wheel has a slot for each millisecond of the next 64, for each 64
// milliseconds of the next 4096, and so on: six levels reach two years.
const (
	wheelBits   = 6
	wheelSlots  = 1 << wheelBits
	wheelLevels = 6
	wheelReach  = 1<<(wheelBits*wheelLevels) - 1
)

// Timer runs a function on its loop, once ([Loop.AfterFunc]) or again and again
// ([Loop.Every]), until it is stopped. It fires late when the loop is busy, and
// never early: the time is monotonic, so a change of the wall clock is nothing.
//
// Thread: its loop.
//
// Cost: 64 bytes and what fn captures; no lock, no system call, no goroutine.
type Timer struct {
	loop  *Loop
	owner Sink
	fn    func()
	when  int64 // tick, or ticking
	in    *timers
	next  *Timer
	prev  **Timer // what points here
}

// never is a tick that does not come.
const never = math.MaxInt64

// timers is a list in the order of arrival.
type timers struct {
	head *Timer
	tail **Timer
}

func (l *timers) push(t *Timer) {
	if l.head == nil {
		l.tail = &l.head
	}
	t.in, t.next, t.prev = l, nil, l.tail
	*l.tail = t
	l.tail = &t.next
}

func (l *timers) pushFront(t *Timer) {
	if l.head == nil {
		l.push(t)
		return
	}
	t.in, t.next, t.prev = l, l.head, &l.head
	l.head.prev = &t.next
	l.head = t
}

func (l *timers) remove(t *Timer) {
	*t.prev = t.next
	if t.next != nil {
		t.next.prev = t.prev
	} else {
		l.tail = t.prev
	}
	t.in, t.next, t.prev = nil, nil, nil
}

// AfterFunc runs fn on the loop after d, for owner: the party that ends if fn
// panics, or nobody if it is nil. d is rounded up to a millisecond. Timers of one
// millisecond run in the order in which they were armed. The loop does not wait
// for timers when it ends.
func (l *Loop) AfterFunc(d time.Duration, owner Sink, fn func()) *Timer {
	t := &Timer{loop: l, owner: owner, fn: fn}
	l.schedule(t, d)
	return t
}

// ticking is Timer.when while the function of a periodic timer runs.
const ticking = -1

// Every runs fn on the loop each period, the first time after one, for owner: the
// party that ends if fn panics. The times are multiples of period from now and do
// not drift. What the loop was too busy to do in time is done once, at once, and
// not made up for. A panic ends the timer too. period is at least a millisecond.
func (l *Loop) Every(period time.Duration, owner Sink, fn func()) *Timer {
	period = max(period, time.Millisecond)
	t := &Timer{loop: l, owner: owner}
	due := l.after(period)
	t.fn = func() {
		if t.when != roundUp(due) { // Reset has moved it.
			due = time.Duration(t.when) * time.Millisecond
		}
		t.when = ticking
		defer func() {
			if t.when == ticking {
				t.when = 0 // fn has panicked.
			}
		}()
		fn()
		if t.when == ticking { // Neither Stop nor Reset inside fn.
			due += period * (1 + max(0, l.Now()-due)/period)
			l.arm(t, due)
		}
	}
	l.arm(t, due)
	return t
}

// Armed reports whether the function is to run, or to run again.
func (t *Timer) Armed() bool { return t.in != nil || t.when == ticking }

// Stop disarms t and reports whether it was armed. It may be called at any time,
// also inside the function, and more than once.
func (t *Timer) Stop() bool {
	if t.in != nil {
		t.loop.wheel.remove(t)
		return true
	}
	armed := t.when == ticking
	t.when = 0
	return armed
}

// Reset arms t anew, d from now. A periodic timer goes on from there.
func (t *Timer) Reset(d time.Duration) {
	t.Stop()
	t.loop.schedule(t, d)
}

func (l *Loop) schedule(t *Timer, d time.Duration) {
	t.loop = l
	l.arm(t, l.after(d))
}

// heldUp is how late a timer may be before the loop takes it that it was held up.
const heldUp = 10 * time.Millisecond

// catchesUp reports whether timers that are due wait. When the loop was held up, by a stop
// of the process or by a handler that blocked, what has come meanwhile is heard first, and
// what is to be sent for that is sent: a peer was not silent that the loop did not hear. They
// wait until nothing more is there, and for no longer than the loop was held up.
func (l *Loop) catchesUp() bool {
	due, now := time.Duration(l.wheel.expired.head.when)*time.Millisecond, l.Now()
	switch late := now - due; {
	case l.expired > 0: // A panic has interrupted them.
		return false
	case l.catchUp == 0 && due > l.judged && late > heldUp: // Also if the Wait has brought nothing: an alarm may end it first.
		l.catchUp = now + late
		return true
	case l.n > 0 && now < l.catchUp:
		return true
	}
	l.catchUp, l.judged = 0, now
	return false
}

// after returns the time d from now, or the last there is.
func (l *Loop) after(d time.Duration) time.Duration {
	const last = math.MaxInt64 - time.Millisecond // which can be rounded up
	return l.Now() + min(max(0, d), last-l.Now())
}

// arm puts t into the wheel, due at this time of the loop.
func (l *Loop) arm(t *Timer, due time.Duration) {
	l.wheel.advance(tick(l.Now())) // It is turned only when something may be due.
	t.when = roundUp(due)
	l.wheel.add(t)
}

// roundUp returns the first whole millisecond at or behind d.
func roundUp(d time.Duration) int64 { return tick(d + time.Millisecond - 1) }

// tick returns the last whole millisecond at d.
func tick(d time.Duration) int64 { return int64(d / time.Millisecond) }

// wheel holds timers by the millisecond at which they are due.
type wheel struct {
	now     int64               // what was due up to here is in expired
	due     int64               // when the next used slot begins, never if there is none
	armed   int                 // timers in slots and in expired
	used    [wheelLevels]uint64 // bit i: slot i may hold a timer
	slots   [wheelLevels][wheelSlots]timers
	expired timers
}

func (w *wheel) add(t *Timer) {
	if w.armed++; w.armed == 1 {
		w.due = never // Slots that are marked and empty are nothing to wait for.
	}
	slot, begin := w.slot(max(t.when, w.now+1))
	slot.push(t)
	w.due = min(w.due, begin)
}

// slot returns the slot for tick at, on the level that resolves it, marked as used, and
// when it begins.
func (w *wheel) slot(at int64) (_ *timers, begin int64) {
	at = min(at, w.now+wheelReach) // What is farther is dealt out again then.
	level := 0
	if d := at - w.now; d >= wheelSlots {
		level = (bits.Len64(uint64(d)) - 1) / wheelBits
	}
	slot := at >> (level * wheelBits) & (wheelSlots - 1)
	w.used[level] |= 1 << slot
	return &w.slots[level][slot], at >> (level * wheelBits) << (level * wheelBits)
}

func (w *wheel) remove(t *Timer) {
	w.armed--
	t.in.remove(t) // The bit in used stays: at worst one turn too many.
}

// pop takes the next timer that is due, or returns nil.
func (w *wheel) pop() *Timer {
	t := w.expired.head
	if t != nil {
		w.remove(t)
	}
	return t
}

// next returns the tick at which a wheel that holds timers has work.
func (w *wheel) next() int64 {
	if w.expired.head != nil {
		return w.now
	}
	return w.due
}

// nextSlot returns the tick at which the next used slot begins, never if there is none.
func (w *wheel) nextSlot() int64 {
	at := int64(never)
	for level, used := range w.used {
		if used == 0 {
			continue
		}
		// Bit i of ahead is the slot i+1 places on; the present one is 64 on.
		here := w.now >> (level * wheelBits)
		ahead := bits.RotateLeft64(used, -int((here+1)&(wheelSlots-1)))
		at = min(at, (here+1+int64(bits.TrailingZeros64(ahead)))<<(level*wheelBits))
	}
	return at
}

// advance moves the wheel to tick now and collects what is due in expired.
func (w *wheel) advance(now int64) {
	for w.due <= now {
		at := w.nextSlot()
		if w.due = at; at > now {
			break
		}
		w.now = at
		var early *Timer // what is not due yet, the last armed first
		for level := wheelLevels - 1; level >= 0; level-- {
			if at&(1<<(level*wheelBits)-1) == 0 {
				early = w.deal(level, int(at>>(level*wheelBits)&(wheelSlots-1)), early)
			}
		}
		for early != nil {
			t := early
			early = t.next
			slot, _ := w.slot(t.when)
			slot.pushFront(t) // Who is there already was armed later.
		}
	}
	w.now = max(w.now, now)
}

// deal empties a slot whose time has come: to expired, or in front of early.
func (w *wheel) deal(level, slot int, early *Timer) *Timer {
	w.used[level] &^= 1 << slot
	from := &w.slots[level][slot]
	t := from.head
	from.head = nil
	for t != nil {
		next := t.next
		if t.when <= w.now {
			w.expired.push(t)
		} else {
			t.next, early = early, t
		}
		t = next
	}
	return early
}
