package main

import (
	"net"
	"runtime"
	"time"
)

// A connection starts with a small buffer, which suits many that say little, and gets a
// larger one while reads fill it, which suits bulk.
const (
	netBufferMin = 4 << 10
	netBufferMax = 256 << 10
)

// serveNet is the usual server on package net, which sets TCP_NODELAY itself. Read and
// Write beat io.Copy here: that would splice through a pipe, which costs more calls.
func serveNet(cfg config) error {
	runtime.GOMAXPROCS(cfg.loops)
	listener, err := listen("tcp", cfg.addr)
	if err != nil {
		return err
	}
	announce(cfg, listener.Addr())
	handle := echoNet
	if cfg.fanout {
		handle = fanoutNet()
	}
	for {
		c, err := listener.Accept()
		if err != nil { // of one connection, or no descriptor is left just now
			time.Sleep(5 * time.Millisecond)
			continue
		}
		go func() {
			defer func() { _ = c.Close() }()
			readAll(c, cfg.buffer, handle(c))
		}()
	}
}

// readAll hands everything that comes to take, until the end, an error or take's error.
func readAll(c net.Conn, size int, take func([]byte) error) {
	limit := max(netBufferMax, size)
	if size == 0 {
		size = netBufferMin
	}
	for buf := make([]byte, size); ; {
		n, err := c.Read(buf)
		if n > 0 && take(buf[:n]) != nil || err != nil {
			return
		}
		if n == len(buf) && n < limit {
			buf = make([]byte, 2*n)
		}
	}
}

func echoNet(c net.Conn) func([]byte) error {
	return func(p []byte) error {
		_, err := c.Write(p)
		return err
	}
}

// fanoutNet writes to one subscriber after the other on the publisher's goroutine. That
// is the cheapest way; a slow subscriber holds the publisher up, and loses nothing.
func fanoutNet() func(net.Conn) func([]byte) error {
	var subs subscribers[net.Conn]
	publish := func(payload []byte) {
		for _, c := range subs.all() {
			if _, err := c.Write(payload); err != nil {
				subs.remove(c)
			}
		}
	}
	return func(c net.Conn) func([]byte) error {
		m := new(member)
		return func(p []byte) error {
			return m.feed(p, func() { subs.add(c) }, publish)
		}
	}
}
