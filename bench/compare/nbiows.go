package main

import (
	"cmp"
	"net"
	"net/http"
	"runtime"

	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"
)

func serveNbioWS(cfg config) error {
	runtime.GOMAXPROCS(cfg.loops + 1)
	logging.SetLevel(logging.LevelNone)
	var subs subscribers[*websocket.Conn]
	up := websocket.NewUpgrader()
	up.EnableCompression(true)
	_ = up.SetCompressionLevel(wsLevel)
	up.OnOpen(func(c *websocket.Conn) { c.EnableWriteCompression(true) })
	up.OnClose(func(c *websocket.Conn, _ error) { subs.remove(c) })
	fanout := cfg.protocol == wsFanoutProtocol
	up.OnMessage(func(c *websocket.Conn, kind websocket.MessageType, in []byte) {
		if !fanout {
			_ = c.WriteMessage(kind, in)
			return
		}
		switch what, p := wsRead(in); what {
		case wsSubscribe:
			subs.add(c)
			_ = c.WriteMessage(kind, p)
		case wsPublish:
			for _, sub := range subs.all() {
				_ = sub.WriteMessage(kind, p)
			}
		default:
			_ = c.WriteClose(1008, "")
		}
	})
	engine := nbhttp.NewEngine(nbhttp.Config{
		Network:                 "tcp",
		Addrs:                   []string{cfg.addr},
		NPoller:                 cfg.loops,
		IOMod:                   nbhttp.IOModNonBlocking,
		ReadBufferSize:          cmp.Or(cfg.buffer, 64<<10),
		ReleaseWebsocketPayload: true,
		Listen:                  listen,
		ServerExecutor:          func(f func()) { f() },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = up.Upgrade(w, r, nil)
		}),
	})
	up.Engine = engine
	if err := engine.Start(); err != nil {
		return err
	}
	addr, err := net.ResolveTCPAddr("tcp", engine.Addrs[0])
	if err != nil {
		return err
	}
	announce(cfg, addr)
	select {}
}
