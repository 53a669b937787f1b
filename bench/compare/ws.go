package main

import (
	"net"
	"net/http"
	"runtime"
)

// The protocols over WebSockets. In ws-fanout a message "S" subscribes and is answered by
// the same; one that begins with 'P' publishes what is behind that, to all subscribers.
const (
	wsProtocol        = "ws"
	wsDeflateProtocol = "ws-deflate" // with context takeover, in windows of 4 KiB where they can be bounded
	wsFanoutProtocol  = "ws-fanout"
)

var (
	tcpProtocols = []string{"echo", "fanout"}
	wsProtocols  = []string{wsProtocol, wsDeflateProtocol, wsFanoutProtocol}
)

const (
	wsWindowBits = 12
	wsLevel      = 1
)

// wsBuffer is the read buffer of a connection: 4 KiB, and what a message of 16 KiB needs
// beside it is read directly by the libraries.
const wsBuffer = 4 << 10

func wsPeers() []peer {
	const each = "a goroutine a connection, GOMAXPROCS = loops, level 1"
	return []peer{
		{
			name:      "gws",
			how:       "gws v1.8.9, its own server, " + each + "; no parallel handling, which would answer out of order, and no check of UTF-8, as its documentation says for speed; takeover in windows of 4 KiB, its default; Broadcaster",
			serve:     serveGws,
			protocols: wsProtocols,
		},
		{
			name:      "gobwas",
			how:       "gobwas/ws v1.5.0, zero-copy upgrade, " + each + "; frames read by ReadHeader through a buffer of 4 KiB into a payload that is used again, answers written when no more input is buffered; pooled klauspost/compress without takeover, which it has not; a broadcast is one compiled frame",
			serve:     serveGobwas,
			protocols: wsProtocols,
		},
		{
			name:      "gorilla",
			how:       "gorilla/websocket v1.5.3 on net/http, " + each + "; NextReader into a buffer that is used again, WriteBufferPool as its documentation says for many connections; without takeover, which it has not; PreparedMessage",
			serve:     serveGorilla,
			protocols: wsProtocols,
		},
		{
			name:      "coder",
			how:       "coder/websocket v1.8.15 on net/http, " + each + "; Reader into a buffer that is used again; takeover with a compressor a connection and windows of 32 KiB, which cannot be bounded; it has no prepared messages",
			serve:     serveCoder,
			protocols: wsProtocols,
		},
		{
			name:      "nbio-ws",
			how:       "nbio v1.6.8 nbhttp and websocket, non-blocking, NPoller = loops, the handler on the poller by ServerExecutor, ReleaseWebsocketPayload, 64 KiB read buffer a poller, GOMAXPROCS = loops + 1 as for nbio; without takeover, which it has not; it has no prepared messages",
			serve:     serveNbioWS,
			protocols: wsProtocols,
		},
		{
			name:      "bun",
			how:       "Bun's own server (uWebSockets), the one loop that a process has, so for --loops 1; perMessageDeflate with 4 KiB windows for takeover, and shared ones without; subscribe and publish",
			serve:     serveBun,
			check:     checkBun,
			native:    true,
			protocols: wsProtocols,
		},
	}
}

// wsListen listens for servers with a goroutine a connection.
func wsListen(cfg config) (net.Listener, error) {
	runtime.GOMAXPROCS(cfg.loops)
	l, err := listen("tcp", cfg.addr)
	if err != nil {
		return nil, err
	}
	announce(cfg, l.Addr())
	return l, nil
}

// wsHTTP serves by net/http.
func wsHTTP(cfg config, handle http.HandlerFunc) error {
	l, err := wsListen(cfg)
	if err != nil {
		return err
	}
	return http.Serve(l, handle)
}

// wsSpeech is what a message asks for in a fan-out.
type wsSpeech int

const (
	wsNonsense wsSpeech = iota
	wsSubscribe
	wsPublish
)

func wsRead(p []byte) (wsSpeech, []byte) {
	switch {
	case string(p) == "S":
		return wsSubscribe, p
	case len(p) > 0 && p[0] == 'P':
		return wsPublish, p[1:]
	}
	return wsNonsense, nil
}
