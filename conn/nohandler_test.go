package conn_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/reactor"
)

// TestNoHandler holds that a Handler that is nil is an error where it is given, and
// not a panic for each connection.
func TestNoHandler(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		var d conn.Dialer
		ctx := context.Background()
		for name, fn := range map[string]func() error{
			"Listen": func() error { _, err := conn.Listen(g, "tcp", "127.0.0.1:0", nil, conn.Config{}); return err },
			"ListenPacket": func() error {
				_, err := conn.ListenPacket(g, "udp", "127.0.0.1:0", nil, conn.PacketConfig{})
				return err
			},
			"NewAttacher": func() error { _, err := conn.NewAttacher(g, nil, conn.Config{}); return err },
			"AttachFD":    func() error { return conn.AttachFD(g.Loop(0), 0, nil, conn.Config{}, nil) },
			"Start":       func() error { return d.Start(ctx, g.Loop(0), "tcp", "127.0.0.1:1", nil) },
			"DialGroup":   func() error { _, err := d.DialGroup(ctx, g, "tcp", "127.0.0.1:1", nil); return err },
			"DialPacketContext": func() error {
				_, err := d.DialPacketContext(ctx, g.Loop(0), "udp", "127.0.0.1:1", nil)
				return err
			},
		} {
			if err := fn(); !errors.Is(err, conn.ErrNoHandler) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := d.Start(ctx, g.Loop(0), "udp", "127.0.0.1:1", conn.NopHandler{}); err == nil {
			t.Error("Start says nothing of a network for datagrams")
		}
		d.Reconnect = &conn.Reconnect{Least: 2 * time.Second, Most: time.Second}
		if _, err := d.DialGroup(ctx, g, "tcp", "127.0.0.1:1", conn.NopHandler{}); err == nil {
			t.Error("a Reconnect that waits more at least than at the most")
		}
	})
}
