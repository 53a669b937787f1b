package main

import (
	"bytes"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

// gorillaSub is a connection that one at a time may write to.
type gorillaSub struct {
	mu sync.Mutex
	*websocket.Conn
}

func (s *gorillaSub) say(p *websocket.PreparedMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.WritePreparedMessage(p)
}

func serveGorilla(cfg config) error {
	up := websocket.Upgrader{ReadBufferSize: wsBuffer, WriteBufferSize: wsBuffer, WriteBufferPool: &sync.Pool{}, EnableCompression: true}
	var subs subscribers[*gorillaSub]
	fanout := cfg.protocol == wsFanoutProtocol
	return wsHTTP(cfg, func(w http.ResponseWriter, r *http.Request) {
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		_ = c.SetCompressionLevel(wsLevel)
		s := &gorillaSub{Conn: c}
		defer func() {
			subs.remove(s)
			_ = c.Close()
		}()
		var in bytes.Buffer
		for err == nil {
			kind, from, failed := c.NextReader()
			if failed != nil {
				return
			}
			in.Reset()
			if _, err = in.ReadFrom(from); err != nil {
				return
			}
			if fanout {
				err = gorillaSays(&subs, s, kind, in.Bytes())
			} else {
				err = c.WriteMessage(kind, in.Bytes())
			}
		}
	})
}

func gorillaSays(subs *subscribers[*gorillaSub], s *gorillaSub, kind int, p []byte) error {
	what, p := wsRead(p)
	if what == wsNonsense {
		return errSpeech
	}
	m, err := websocket.NewPreparedMessage(kind, p)
	if err != nil || what == wsSubscribe {
		subs.add(s)
		return s.say(m)
	}
	for _, sub := range subs.all() {
		_ = sub.say(m)
	}
	return nil
}
