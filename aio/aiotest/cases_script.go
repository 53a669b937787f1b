package aiotest

import (
	"bytes"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/aio"
)

const (
	scripts      = 25 // seeds
	scriptSteps  = 400
	scriptActors = 5
	scriptSlot   = 3000 // of the first actor
)

// actor is a party that does everything at random, with what was sent in each direction.
type actor struct {
	*party
	toNear, toFar []byte
}

// caseScript has some parties do at random all that the law allows, and compares what
// arrives with what was sent. The rig looks at every completion.
func caseScript(r *rig) {
	actors := make([]actor, scriptActors)
	for i := range actors {
		actors[i] = r.newActor(scriptSlot+uint32(i), 1)
	}
	for seed := range uint64(scripts) {
		r.script(seed, actors)
	}
}

func (r *rig) newActor(slot, gen uint32) actor {
	fd, far := r.net.pair(r.t)
	return actor{party: r.adoptAs(aio.Token{Slot: slot, Gen: gen}, fd, far)}
}

func (r *rig) script(seed uint64, actors []actor) {
	r.t.Helper()
	defer func() {
		if r.t.Failed() {
			r.t.Logf("in the script of seed %d", seed)
		}
	}()
	r.rng = rand.New(rand.NewPCG(seed, 3))
	done := r.done
	for range scriptSteps {
		i := r.rng.IntN(len(actors))
		actors[i].act()
		r.done = done[:1+r.rng.IntN(len(done))]
		switch r.rng.IntN(6) {
		case 0:
			r.e.Wake()
			r.wait(-1)
		case 1:
			r.wait(time.Duration(r.rng.IntN(int(100 * time.Microsecond))))
		case 2, 3:
			r.wait(0)
		}
	}
	r.done = done
	for i := range actors {
		actors[i].keep = false
		actors[i].release()
	}
	for i := range actors {
		a := &actors[i]
		if r.rng.IntN(3) == 0 { // In the middle of it all.
			a.compare(false)
			a.finish()
			*a = r.newActor(a.tok.Slot, a.tok.Gen+1)
			continue
		}
		a.settle()
	}
}

// settle lets everything come home, and compares.
func (a *actor) settle() {
	a.r.t.Helper()
	a.want, a.flags, a.piece = true, aio.Prompt, 0
	a.r.until("the end of a script", func() bool {
		a.forgive()
		return len(a.in) >= len(a.toNear) && len(a.got) >= len(a.toFar) && len(a.out) == 0 && len(a.lent) == 0
	})
	a.compare(true)
	a.in, a.got, a.toNear, a.toFar = nil, nil, nil, nil
}

// compare holds what has arrived against what was sent; whole says that all has to be there.
func (a *actor) compare(whole bool) {
	a.r.t.Helper()
	if !bytes.HasPrefix(a.toNear, a.in) || !bytes.HasPrefix(a.toFar, a.got) || whole && (len(a.in) < len(a.toNear) || len(a.got) < len(a.toFar)) {
		a.r.t.Fatalf("%d of %d bytes received, %d of %d sent, or they differ", len(a.in), len(a.toNear), len(a.got), len(a.toFar))
	}
}

// forgive goes on after a cancelled send: whether there was room is not known.
func (a *actor) forgive() {
	if a.sendErr == syscall.ECANCELED {
		a.sendErr, a.full = nil, true
	}
}

// asksOf are the kinds of receives, first those that a unix socket has too.
var asksOf = [...]aio.Flags{aio.Once, aio.Once | aio.Bulk, aio.Once | aio.Bulk | aio.Wide, aio.Bulk, aio.Bulk | aio.Wide, aio.Bulk | aio.Multishot, 0}

// asksOfUnix is how many those are.
const asksOfUnix = 3

// act does one thing, if that is allowed now.
func (a *actor) act() {
	r := a.r
	a.forgive()
	switch k := r.rng.IntN(12); {
	case k <= 1:
		data := r.random(1 + r.rng.IntN(3*blockSize))
		a.toNear = append(a.toNear, data[:a.far.write(data)]...)
	case k == 2:
		data := r.random(1 + r.rng.IntN(5*blockSize))
		a.toFar, a.out = append(a.toFar, data...), append(a.out, data...)
	case k == 3 && !a.sending && len(a.out) > 0:
		a.flags = []aio.Flags{0, aio.Prompt, aio.ZeroCopy, aio.ZeroCopy | aio.Prompt}[r.rng.IntN(4)]
		a.piece = 1 + r.rng.IntN(8*blockSize)
		a.send()
	case k == 4 && !a.sending && len(a.out) > 1 && !a.full:
		n := a.try(a.out[:2+r.rng.IntN(len(a.out)-1)])
		if n < 0 {
			r.t.Fatalf("Try: %v", syscall.Errno(-n))
		}
		a.out = a.out[n:]
	case k == 5 && !a.armed:
		most := len(asksOf)
		if r.net.name() == "unix" {
			most = asksOfUnix
		}
		a.asks = asksOf[r.rng.IntN(most)]
		a.recv()
	case k == 6 && a.armed:
		a.cancel(aio.Recv)
	case k == 7 && a.sending:
		a.cancel(aio.Send)
	case k == 8 && !a.polling:
		a.poll([]uint32{pollIn, pollOut, pollIn | pollOut, pollRDHup, 0}[r.rng.IntN(5)])
	case k == 8:
		a.cancel(aio.Poll)
	case k == 9:
		a.read(1 + r.rng.IntN(6*blockSize))
	case k == 10:
		if a.keep = r.rng.IntN(2) == 0; len(a.kept) > 0 {
			a.kept[0].Release()
			a.kept = a.kept[1:]
		}
	case k == 11: // Of who was here before.
		r.e.Submit(&aio.Op{Token: aio.Token{Slot: a.tok.Slot, Gen: a.tok.Gen - 1}, Kind: aio.Cancel, Target: aio.Recv, FD: a.fd})
	}
}
