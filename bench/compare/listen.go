package main

import (
	"context"
	"net"
)

// listen opens a listener of package net without what others here do not do: since Go 1.24
// it would be one of MPTCP, and each connection would have its keep-alive set by three
// system calls.
func listen(network, addr string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false)
	return lc.Listen(context.Background(), network, addr)
}
