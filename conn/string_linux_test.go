package conn_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/reactor"
)

// TestPanicIsNamed holds that the log of a panic says whose handler it was.
func TestPanicIsNamed(t *testing.T) {
	read, write := io.Pipe()
	lines := json.NewDecoder(read)
	named := func(t *testing.T, want string) {
		t.Helper()
		var record struct{ Panic, Party string }
		for record.Panic == "" {
			if err := lines.Decode(&record); err != nil {
				t.Fatal(err)
			}
		}
		if record.Party != want {
			t.Errorf("the log names %q, want %q", record.Party, want)
		}
	}
	cfg := reactor.Config{Logger: slog.New(slog.NewJSONHandler(write, &slog.HandlerOptions{Level: slog.LevelError}))}
	looptest.Engines(t, cfg, func(t *testing.T, g *reactor.Group) {
		id := make(chan uint64, 1)
		l := listen(t, g, &conn.Funcs{
			Open: func(c *conn.Conn) { id <- c.ID() },
			Data: func(*conn.Conn, *buf.Buf) { panic("boom") },
		}, conn.Config{})
		c := dial(t, l)
		_, _ = c.Write([]byte("x"))
		named(t, fmt.Sprintf("id=%d remote=%v", <-id, c.LocalAddr()))

		p, err := conn.ListenPacket(g, "udp", "127.0.0.1:0", &conn.PacketFuncs{
			Packet: func(p *conn.PacketConn, _ *buf.Buf, _ conn.Source) { id <- p.ID(); panic("boom") },
		}, conn.PacketConfig{})
		if err != nil {
			t.Fatal(err)
		}
		u, err := net.Dial("udp", p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		_, _ = u.Write([]byte("x"))
		named(t, fmt.Sprintf("id=%d", <-id))
	})
}
