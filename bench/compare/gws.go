package main

import (
	"errors"
	"net"
	"slices"

	"github.com/lxzan/gws"
)

// gwsServer answers on the connection's goroutine.
type gwsServer struct {
	gws.BuiltinEventHandler
	fanout bool
	subs   subscribers[*gws.Conn]
}

func serveGws(cfg config) error {
	takeover := cfg.protocol == wsDeflateProtocol
	server := gws.NewServer(&gwsServer{fanout: cfg.protocol == wsFanoutProtocol}, &gws.ServerOption{
		ReadBufferSize: wsBuffer,
		PermessageDeflate: gws.PermessageDeflate{
			Enabled:               true,
			Level:                 wsLevel,
			ServerContextTakeover: takeover,
			ClientContextTakeover: takeover,
			ServerMaxWindowBits:   gwsBits(takeover),
			ClientMaxWindowBits:   gwsBits(takeover),
		},
	})
	server.OnError = func(net.Conn, error) {} // It says when a connection ends.
	l, err := wsListen(cfg)
	if err != nil {
		return err
	}
	return server.RunListener(l)
}

func gwsBits(takeover bool) int {
	if takeover {
		return wsWindowBits
	}
	return 15
}

func (s *gwsServer) OnClose(c *gws.Conn, _ error) {
	if s.fanout {
		s.subs.remove(c)
	}
}

func (s *gwsServer) OnMessage(c *gws.Conn, m *gws.Message) {
	defer func() { _ = m.Close() }()
	if !s.fanout {
		_ = c.WriteMessage(m.Opcode, m.Bytes())
		return
	}
	switch what, p := wsRead(m.Bytes()); what {
	case wsSubscribe:
		s.subs.add(c)
		_ = c.WriteMessage(m.Opcode, p)
	case wsPublish:
		b := gws.NewBroadcaster(m.Opcode, slices.Clone(p)) // It is written later.
		for _, sub := range s.subs.all() {
			_ = b.Broadcast(sub)
		}
		_ = b.Close()
	default:
		c.WriteClose(1008, nil)
	}
}

var errSpeech = errors.New("no message of the fan-out protocol")
