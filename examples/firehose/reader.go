package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/penstock-go/penstock/internal/firehose"
)

// seed is what the reader asks the server for.
const seed = "demo"

// step is how long the reader sleeps when it has read what it may.
const step = 10 * time.Millisecond

// reader is a client that asks for all it can get, and reads it slowly.
type reader struct {
	conn net.Conn
	rate atomic.Int64 // bytes a second, 0 = paused, below 0 = as fast as it goes
	read atomic.Int64 // bytes so far
	done chan error   // gets the end: nil at a whole stream's end of file
}

// newReader connects to addr and begins to read.
func newReader(addr string, rate int64, guard func()) (*reader, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	// A small window, so that bytes wait in the server's queue, where they can
	// be seen, rather than in the kernel.
	if err := c.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(c, "SEND %d %s\n", int64(1)<<62, seed); err != nil {
		return nil, err
	}
	r := &reader{conn: c, done: make(chan error, 1)}
	r.rate.Store(rate)
	go func() {
		defer guard()
		r.done <- r.run()
		_ = c.Close()
	}()
	return r, nil
}

// run reads to the end, and compares every byte with what the seed stands for.
func (r *reader) run() error {
	want := firehose.NewStream(seed)
	got, expected := make([]byte, 64<<10), make([]byte, 64<<10)
	last, credit := time.Now(), 0.0
	for {
		limit := len(got)
		if rate := r.rate.Load(); rate >= 0 {
			now := time.Now()
			credit = min(credit+float64(rate)*now.Sub(last).Seconds(), float64(rate)/10+1)
			if last = now; credit < 1 || rate == 0 {
				time.Sleep(step)
				continue
			}
			limit = min(limit, int(credit))
		}
		n, err := r.conn.Read(got[:limit])
		_, _ = want.Read(expected[:n])
		if !bytes.Equal(got[:n], expected[:n]) {
			return fmt.Errorf("the bytes from %d on are not those of the seed", r.read.Load())
		}
		credit -= float64(n)
		r.read.Add(int64(n))
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
