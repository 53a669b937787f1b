package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsflate"
	"github.com/klauspost/compress/flate"
)

// gobwasServer puts a server together of what the library has for frames.
type gobwasServer struct {
	fanout   bool
	subs     subscribers[*gobwasConn]
	packers  sync.Pool
	unpacker sync.Pool
}

// gobwasConn is a connection, which its own goroutine serves.
type gobwasConn struct {
	net.Conn
	packs  bool
	in     *bufio.Reader
	out    *bufio.Writer
	data   []byte
	packed bytes.Reader
	plain  bytes.Buffer
	small  bytes.Buffer
}

type onlyReader struct{ io.Reader }

// gobwasUnpacker can be used again, which the library asks for in these words.
type gobwasUnpacker struct{ io.ReadCloser }

func (u gobwasUnpacker) Reset(r io.Reader) { _ = u.ReadCloser.(flate.Resetter).Reset(r, nil) }

func serveGobwas(cfg config) error {
	s := &gobwasServer{fanout: cfg.protocol == wsFanoutProtocol}
	s.packers.New = func() any {
		return wsflate.NewWriter(nil, func(w io.Writer) wsflate.Compressor {
			f, _ := flate.NewWriter(w, wsLevel)
			return f
		})
	}
	s.unpacker.New = func() any {
		return wsflate.NewReader(nil, func(r io.Reader) wsflate.Decompressor {
			return gobwasUnpacker{flate.NewReader(r)}
		})
	}
	l, err := wsListen(cfg)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		go func() {
			defer func() { _ = c.Close() }()
			extension := wsflate.Extension{Parameters: wsflate.DefaultParameters}
			up := ws.Upgrader{Negotiate: extension.Negotiate}
			if _, err := up.Upgrade(c); err != nil {
				return
			}
			_, packs := extension.Accepted()
			s.serve(&gobwasConn{Conn: c, packs: packs, in: bufio.NewReaderSize(c, wsBuffer), out: bufio.NewWriterSize(c, wsBuffer)})
		}()
	}
}

func (s *gobwasServer) serve(c *gobwasConn) {
	defer s.subs.remove(c)
	for {
		h, p, err := s.read(c)
		if err != nil {
			return
		}
		if s.fanout {
			err = s.hear(c, h.OpCode, p)
		} else {
			err = s.write(c, h.OpCode, p)
		}
		if err == nil && c.in.Buffered() == 0 {
			err = c.out.Flush()
		}
		if err != nil {
			return
		}
	}
}

// read returns a message that comes in one frame, as all do here.
func (s *gobwasServer) read(c *gobwasConn) (h ws.Header, p []byte, err error) {
	if h, err = ws.ReadHeader(c.in); err != nil {
		return h, nil, err
	}
	if err := ws.CheckHeader(h, ws.StateServerSide|ws.StateExtended); err != nil {
		return h, nil, err
	}
	if h.OpCode.IsControl() || !h.Fin || h.Length > 16<<20 {
		return h, nil, errSpeech
	}
	if cap(c.data) < int(h.Length) {
		c.data = make([]byte, h.Length)
	}
	p = c.data[:h.Length]
	if _, err := io.ReadFull(c.in, p); err != nil {
		return h, nil, err
	}
	ws.Cipher(p, h.Mask, 0)
	if packed, err := wsflate.IsCompressed(h); err != nil || !packed {
		return h, p, err
	}
	r := s.unpacker.Get().(*wsflate.Reader)
	defer s.unpacker.Put(r)
	c.packed.Reset(p)
	r.Reset(onlyReader{&c.packed}) // With a ReadByte the library makes up a byte at the end.
	c.plain.Reset()
	if _, err := c.plain.ReadFrom(r); err != nil {
		return h, nil, err
	}
	return h, c.plain.Bytes(), nil
}

// pack compresses a message into b.
func (s *gobwasServer) pack(b *bytes.Buffer, p []byte) error {
	w := s.packers.Get().(*wsflate.Writer)
	defer s.packers.Put(w)
	b.Reset()
	w.Reset(b)
	if _, err := w.Write(p); err != nil {
		return err
	}
	return w.Close()
}

func (s *gobwasServer) write(c *gobwasConn, op ws.OpCode, p []byte) error {
	h := ws.Header{Fin: true, OpCode: op}
	if c.packs {
		if err := s.pack(&c.small, p); err != nil {
			return err
		}
		p, h.Rsv = c.small.Bytes(), ws.Rsv(true, false, false)
	}
	h.Length = int64(len(p))
	if err := ws.WriteHeader(c.out, h); err != nil {
		return err
	}
	_, err := c.out.Write(p)
	return err
}

func (s *gobwasServer) hear(c *gobwasConn, op ws.OpCode, p []byte) error {
	switch what, p := wsRead(p); what {
	case wsSubscribe:
		s.subs.add(c)
		return s.write(c, op, p)
	case wsPublish:
		return s.publish(op, p)
	}
	return errSpeech
}

// publish makes a frame of either kind once. The writes of a connection keep each
// other out, so nothing else is needed.
func (s *gobwasServer) publish(op ws.OpCode, p []byte) (err error) {
	var frames [2][]byte
	for _, c := range s.subs.all() {
		kind := 0
		if c.packs {
			kind = 1
		}
		if frames[kind] == nil {
			f := ws.NewFrame(op, true, p)
			if c.packs {
				var small bytes.Buffer
				if err = s.pack(&small, p); err != nil {
					return err
				}
				f = ws.NewFrame(op, true, small.Bytes())
				f.Header.Rsv = ws.Rsv(true, false, false)
			}
			if frames[kind], err = ws.CompileFrame(f); err != nil {
				return err
			}
		}
		_, _ = c.Write(frames[kind])
	}
	return nil
}
