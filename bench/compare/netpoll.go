package main

import (
	"context"
	"runtime"
	"sync"

	"github.com/cloudwego/netpoll"
)

// serveNetpoll answers from netpoll's own buffer: above 4 KiB WriteBinary refers to it,
// and Flush returns when the socket has taken all, so Release comes after it. Flush
// blocks, which is why the handler needs a goroutine and cannot run on the poller.
func serveNetpoll(cfg config) error {
	runtime.GOMAXPROCS(cfg.loops)
	if err := netpoll.SetNumLoops(cfg.loops); err != nil {
		return err
	}
	if err := netpoll.DisableGopool(); err != nil {
		return err
	}
	socket, err := listen("tcp", cfg.addr)
	if err != nil {
		return err
	}
	listener, err := netpoll.ConvertListener(socket)
	if err != nil {
		return err
	}
	handler, prepare := echoNetpoll, netpoll.OnPrepare(nil)
	if cfg.fanout {
		handler, prepare = fanoutNetpoll()
	}
	loop, err := netpoll.NewEventLoop(handler, netpoll.WithOnPrepare(prepare)) // it sets TCP_NODELAY itself
	if err != nil {
		return err
	}
	announce(cfg, listener.Addr())
	return loop.Serve(listener)
}

func echoNetpoll(_ context.Context, c netpoll.Connection) error {
	r, w := c.Reader(), c.Writer()
	in, err := r.Next(r.Len())
	if err != nil {
		return err
	}
	if _, err = w.WriteBinary(in); err != nil {
		return err
	}
	if err = w.Flush(); err != nil {
		return err
	}
	return r.Release()
}

type memberKey struct{}

// fanoutNetpoll keeps the subscribers under one lock while it writes: a connection's
// buffers are recycled when it closes, so closing has to wait until nobody writes to it.
func fanoutNetpoll() (netpoll.OnRequest, netpoll.OnPrepare) {
	var mu sync.Mutex
	subs := make(map[netpoll.Connection]struct{})
	publish := func(payload []byte) {
		mu.Lock()
		defer mu.Unlock()
		for c := range subs {
			if c.IsActive() {
				_, _ = c.Writer().WriteBinary(payload)
				_ = c.Writer().Flush()
			}
		}
	}
	prepare := func(c netpoll.Connection) context.Context {
		_ = c.AddCloseCallback(func(c netpoll.Connection) error {
			mu.Lock()
			defer mu.Unlock()
			delete(subs, c)
			return nil
		})
		return context.WithValue(context.Background(), memberKey{}, new(member))
	}
	handler := func(ctx context.Context, c netpoll.Connection) error {
		r := c.Reader()
		in, err := r.Next(r.Len())
		if err != nil {
			return err
		}
		m := ctx.Value(memberKey{}).(*member)
		join := func() {
			mu.Lock()
			defer mu.Unlock()
			subs[c] = struct{}{}
		}
		if err = m.feed(in, join, publish); err != nil {
			return c.Close()
		}
		return r.Release()
	}
	return handler, prepare
}
