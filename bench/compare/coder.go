package main

import (
	"bytes"
	"context"
	"net/http"

	"github.com/coder/websocket"
)

func serveCoder(cfg config) error {
	options := &websocket.AcceptOptions{CompressionMode: websocket.CompressionNoContextTakeover}
	if cfg.protocol == wsDeflateProtocol {
		options.CompressionMode = websocket.CompressionContextTakeover
	}
	var subs subscribers[*websocket.Conn]
	fanout := cfg.protocol == wsFanoutProtocol
	return wsHTTP(cfg, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, options)
		if err != nil {
			return
		}
		c.SetReadLimit(1 << 20)
		defer func() {
			subs.remove(c)
			_ = c.CloseNow()
		}()
		ctx := context.Background()
		var in bytes.Buffer
		for err == nil {
			kind, from, failed := c.Reader(ctx)
			if failed != nil {
				return
			}
			in.Reset()
			if _, err = in.ReadFrom(from); err != nil {
				return
			}
			if fanout {
				err = coderSays(ctx, &subs, c, kind, in.Bytes())
			} else {
				err = c.Write(ctx, kind, in.Bytes())
			}
		}
	})
}

func coderSays(ctx context.Context, subs *subscribers[*websocket.Conn], c *websocket.Conn, kind websocket.MessageType, p []byte) error {
	switch what, p := wsRead(p); what {
	case wsSubscribe:
		subs.add(c)
		return c.Write(ctx, kind, p)
	case wsPublish:
		for _, sub := range subs.all() {
			_ = sub.Write(ctx, kind, p)
		}
		return nil
	}
	return errSpeech
}
