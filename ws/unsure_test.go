package ws_test

import (
	"testing"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/ws"
)

// TestUnsureIsNotReferredTo holds that what OnFull sends inside a SendPrepared does not
// refer to that message, which another loop could yet take the budget from; and that what
// comes later does.
func TestUnsureIsNotReferredTo(t *testing.T) {
	data := []byte(sentence(1, 2000))
	fulls := 0
	h := &ws.Funcs{Full: func(c *ws.Conn) {
		if fulls++; fulls == 1 {
			c.Send(ws.Text, data)
		}
	}}
	var c *ws.Conn
	h.Open = func(k *ws.Conn) { c = k }
	r := dialed(t, options{handler: h, window: 64, cfg: ws.Config{Deflate: everything}, below: conn.Config{HighWater: 500, Limit: 1 << 20}}, offerAll)
	r.peer.AutoRead(false)
	c.SendPrepared(ws.Prepare(ws.Text, data))
	c.Send(ws.Text, data)
	r.peer.AutoRead(true)
	r.Settle("flush", func() bool { return c.Pending() == 0 })
	got, _ := decode(t, false, r.got())
	if len(got) != 3 || fulls == 0 {
		t.Fatalf("%d frames, full %d times", len(got), fulls)
	}
	if inside, later := len(got[1].data), len(got[2].data); inside < len(got[0].data)*9/10 || later > len(data)/10 {
		t.Errorf("%d bytes first, %d inside, %d later", len(got[0].data), inside, later)
	}
	out := &stretcher{takeover: true, bits: 15}
	for i := range got {
		if f := out.message(t, got[i]); f.data != string(data) {
			t.Errorf("frame %d inflates to %d bytes", i, len(f.data))
		}
	}
	r.gone()
}
