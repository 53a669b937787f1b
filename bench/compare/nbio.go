package main

import (
	"cmp"
	"net"
	"runtime"

	"github.com/lesismal/nbio"
	"github.com/lesismal/nbio/logging"
)

// serveNbio reads and answers on the poller. Write copies what the socket did not take,
// so the poller's buffer can be written as it is. Its listener, of package net, sets TCP_NODELAY. Writev is left alone: it loses what a
// short write leaves.
func serveNbio(cfg config) error {
	runtime.GOMAXPROCS(cfg.loops + 1)
	logging.SetLevel(logging.LevelNone) // it writes to standard output
	engine := nbio.NewEngine(nbio.Config{
		Network:        "tcp",
		Addrs:          []string{cfg.addr},
		NPoller:        cfg.loops,
		ReadBufferSize: cmp.Or(cfg.buffer, loopBuffer),
		EpollMod:       nbio.EPOLLLT,
		Listen:         listen,
	})
	if cfg.fanout {
		fanoutNbio(engine)
	} else {
		engine.OnData(func(c *nbio.Conn, data []byte) { _, _ = c.Write(data) })
	}
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

func fanoutNbio(engine *nbio.Engine) {
	var subs subscribers[*nbio.Conn]
	engine.OnOpen(func(c *nbio.Conn) {
		c.SetSession(new(member))
	})
	engine.OnClose(func(c *nbio.Conn, _ error) { subs.remove(c) })
	engine.OnData(func(c *nbio.Conn, data []byte) {
		m := c.Session().(*member)
		err := m.feed(data, func() { subs.add(c) }, func(payload []byte) {
			for _, sub := range subs.all() {
				_, _ = sub.Write(payload)
			}
		})
		if err != nil {
			_ = c.CloseWithError(err)
		}
	})
}
