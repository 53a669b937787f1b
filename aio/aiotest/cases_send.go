package aiotest

import (
	"bytes"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/aio"
)

// sendAndCompare sends data through p and compares what the far end reads.
func (p *party) sendAndCompare(data []byte) {
	p.r.t.Helper()
	p.got = nil
	p.sent = 0
	p.out = append([]byte(nil), data...)
	p.r.until("bytes at the far end", func() bool { return len(p.got) >= len(data) || p.sendErr != nil })
	p.r.until("final completions", func() bool { return len(p.lent) == 0 })
	if p.sendErr != nil {
		p.r.t.Fatalf("send: %v", p.sendErr)
	}
	if p.sent != len(data) || !bytes.Equal(p.got, data) {
		p.r.t.Fatalf("sent %d of %d bytes; the %d that were read differ", p.sent, len(data), len(p.got))
	}
}

// caseOrder: what is sent in many pieces is read in order.
func caseOrder(r *rig) {
	p := r.connect()
	for _, piece := range []int{300, 16 << 10, 200 << 10} {
		p.piece = piece
		p.sendAndCompare(r.random(20 * piece))
	}
}

// fillUp sends until the socket is full and everything is home.
func (p *party) fillUp() (total []byte) {
	p.r.t.Helper()
	p.deaf, p.manual = true, true
	p.piece = 64 << 10
	// More than a socket holds with the system's defaults; the odd length makes
	// the period no multiple of anything.
	total = bytes.Repeat(p.r.random(1<<20+7), 16)
	p.out = append([]byte(nil), total...)
	p.r.until("a short send", func() bool { return p.full })
	if p.sendErr != nil {
		p.r.t.Fatalf("send: %v", p.sendErr)
	}
	// A short send may be early: a socket is full when sends that wait for room wait.
	for p.r.until("turn of a send", func() bool { return !p.sending }); ; {
		p.send()
		p.r.turns(200)
		if p.sending {
			return total
		}
	}
}

// caseShortSend: a full socket makes a send short, the rest waits for room and
// nothing is lost or sent twice.
func caseShortSend(r *rig) {
	p := r.connect()
	total := p.fillUp()
	if p.sent == 0 || p.sent >= len(total) {
		r.t.Fatalf("%d of %d bytes taken by a peer that does not read", p.sent, len(total))
	}
	firsts := p.firsts
	r.turns(50)
	if p.firsts != firsts {
		r.t.Error("a send with PollFirst ended while the socket was full")
	}
	total = total[:p.sent+256<<10]
	p.out = p.out[:len(total)-p.sent]
	p.deaf, p.manual = false, false
	r.until("the rest", func() bool { return len(p.got) >= len(total) })
	r.until("final completions", func() bool { return len(p.lent) == 0 })
	if !bytes.Equal(p.got, total) {
		r.t.Error("the bytes read differ from those sent")
	}
}

// caseMaxOut: as many elements as Caps allows, of one byte each.
func caseMaxOut(r *rig) {
	p := r.connect()
	data := r.random(r.e.Caps().MaxOut)
	var out [][]byte
	for i := range data {
		out = append(out, data[i:i+1])
	}
	want := bytes.Clone(data)
	p.out = bytes.Clone(data)
	p.sendOut(data, out)
	r.until("all elements", func() bool { return len(p.got) >= len(want) && len(p.lent) == 0 })
	if !bytes.Equal(p.got, want) {
		r.t.Errorf("read %d bytes that differ from the %d sent", len(p.got), len(want))
	}
}

// caseImmediate: with Caps.Immediate the peer has what Submit was given before any Wait.
func caseImmediate(r *rig) {
	p := r.connect()
	data := r.random(1000)
	want := bytes.Clone(data)
	p.out = bytes.Clone(data)
	p.sendOut(data, [][]byte{data[:300], data[300:]})
	if r.e.Caps().Immediate {
		if p.drain(); !bytes.Equal(p.got, want) {
			r.t.Errorf("the peer has %d of %d bytes behind Submit", len(p.got), len(want))
		}
	}
	r.until("the send", func() bool { return len(p.got) >= len(want) && len(p.lent) == 0 })
	if !bytes.Equal(p.got, want) {
		r.t.Errorf("read %d bytes that differ from the %d sent", len(p.got), len(want))
	}
}

// caseOneByte: thousands of tiny sends.
func caseOneByte(r *rig) {
	p := r.connect()
	p.piece = 1
	p.flags = aio.Prompt
	p.sendAndCompare(r.random(2000))
	if p.firsts < 2000 {
		r.t.Errorf("%d first completions of 2000 sends", p.firsts)
	}
}

// caseZeroCopy: the flag is honoured or ignored; either way the rig clears the
// bytes at the final completion, and the peer must not see that.
func caseZeroCopy(r *rig) {
	p := r.connect()
	p.flags = aio.ZeroCopy
	for _, piece := range []int{100, 5000, 100 << 10} {
		p.piece = piece
		p.sendAndCompare(r.random(20 * piece))
	}
}

// casePrompt: a prompt send ends without any other event.
func casePrompt(r *rig) {
	p := r.connect()
	p.flags = aio.Prompt
	for i := 1; i <= 100; i++ {
		p.out = r.random(10)
		p.send()
		for range 1000 {
			if p.firsts == i {
				break
			}
			r.wait(time.Duration(-1))
		}
		if p.firsts != i || len(p.lent) != 0 {
			r.t.Fatalf("%d first completions of %d prompt sends, %d not final", p.firsts, i, len(p.lent))
		}
		p.out = nil
	}
	// Without Prompt the completion may wait for another event, not for more.
	p.flags = 0
	p.out = r.random(10)
	p.send()
	p.recv()
	p.feed = []byte("event")
	r.until("a send and an event", func() bool { return p.firsts >= 101 && len(p.in) == 5 })
}

// try offers data to the kernel and returns the answer.
func (p *party) try(data []byte) int {
	p.r.t.Helper()
	n := p.r.e.Try(&aio.Op{Token: p.tok, Kind: aio.Send, FD: p.fd, Out: [][]byte{data[:1], data[1:]}})
	if n > len(data) {
		p.r.t.Fatalf("Try took %d of %d bytes", n, len(data))
	}
	return n
}

// caseTry: Try takes, fills up, takes again; and no completion follows.
func caseTry(r *rig) {
	p := r.connect()
	p.deaf = true
	var want []byte
	zeros := 0
	for zeros < 50 { // the fake may say "full" once in a while without cause
		data := r.random(32 << 10)
		n := p.try(data)
		if n < 0 {
			r.t.Fatalf("Try: %v", syscall.Errno(-n))
		}
		want = append(want, data[:n]...)
		if zeros++; n > 0 {
			zeros = 0
		}
		if len(want) > 64<<20 {
			r.t.Fatal("Try is never refused")
		}
	}
	p.drain()
	r.until("room again", func() bool {
		data := r.random(100)
		n := p.try(data)
		if n > 0 {
			want = append(want, data[:n]...)
		}
		return n > 0
	})
	r.until("all bytes", func() bool { p.drain(); return len(p.got) >= len(want) })
	if !bytes.Equal(p.got, want) {
		r.t.Error("the bytes read differ from those Try took")
	}
	p.deaf = false
	p.sendAndCompare(r.random(1000)) // and a Send goes behind it
}

// caseCancelSend: a send that waits for room ends when it is cancelled.
func caseCancelSend(r *rig) {
	p := r.connect()
	total := p.fillUp()
	p.cancel(aio.Send)
	r.until("the cancelled send", func() bool { return !p.sending && len(p.lent) == 0 })
	if p.sendErr != nil && p.sendErr != syscall.ECANCELED {
		r.t.Errorf("cancelled send: %v, want ECANCELED", p.sendErr)
	}
	r.until("what was sent", func() bool { p.drain(); return len(p.got) >= p.sent })
	if !bytes.Equal(p.got, total[:p.sent]) {
		r.t.Errorf("peer read %d bytes, %d were told as sent; or they differ", len(p.got), p.sent)
	}
	p.sendErr, p.out, p.manual, p.deaf, p.full = nil, nil, false, false, true
	p.sendAndCompare(r.random(1000)) // the party lives on
}

// caseSendToNobody: a send to a peer that is gone fails, without a signal.
func caseSendToNobody(r *rig) {
	p := r.connect()
	p.far.close()
	p.farErr = syscall.EPIPE
	p.piece = 100
	p.flags = aio.Prompt
	p.out = r.random(64 << 20 / 1024)
	r.until("a failed send", func() bool { return p.sendErr != nil })
	if p.sendErr != syscall.EPIPE && p.sendErr != syscall.ECONNRESET {
		r.t.Errorf("send: %v, want EPIPE or ECONNRESET", p.sendErr)
	}
	r.until("final completions", func() bool { return len(p.lent) == 0 })
}
