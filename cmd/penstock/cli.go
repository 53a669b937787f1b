package main

import (
	"time"
)

// cli is the command line.
type cli struct {
	Serve   serveCmd   `cmd:"" help:"Serve a protocol until SIGINT or SIGTERM."`
	Probe   probeCmd   `cmd:"" help:"Tell what this host gives: kernel, engine and why, features, limits."`
	Version versionCmd `cmd:"" help:"Print the version."`
	Help    helpCmd    `cmd:"" help:"Print help, of the program or of a command: penstock help serve."`
}

// helpCmd is there to be listed: its work is done before the line is parsed.
type helpCmd struct {
	Command string `arg:"" optional:"" help:"The command to explain."`
}

// serveCmd is the command line of serve.
type serveCmd struct {
	Kind string `arg:"" name:"kind" help:"What to serve: echo, discard, firehose or ws-echo."`

	Listen []string `placeholder:"ADDR" sep:"none" default:"tcp://127.0.0.1:8484" help:"Address to listen on; may be repeated: tcp://HOST:PORT ([::]:PORT serves both families, port 0 takes a free one), udp://HOST:PORT, unix:///path, unix://@abstract. Default ${default}. Datagrams are for echo and discard."`
	Engine string   `placeholder:"ENGINE" default:"auto" help:"auto, uring or epoll. Auto takes io_uring where the host gives it; a forced engine that is unavailable is an error. Default ${default}."`
	Loops  number   `placeholder:"N" default:"0" help:"Number of loops. Default 0: one for each CPU that this process may run on."`
	Pin    bool     `help:"Pin each loop to a CPU. Default off."`

	HighWater  size   `placeholder:"SIZE" default:"1MiB" help:"Bytes in one connection's send queue from which on it is full. Sizes are plain bytes or take KiB, MiB, GiB. Default ${default}."`
	LowWater   size   `placeholder:"SIZE" default:"0" help:"Bytes down to which a full queue must come to be drained. Below --high-water. Default ${default}."`
	SendLimit  *size  `placeholder:"SIZE" help:"Bytes in one connection's send queue from which on a message is refused. Not below --high-water. Default: the same as --high-water."`
	SendMemory size   `placeholder:"SIZE" help:"Bytes over all send queues, shared by dynamic threshold. Default 0: no cap."`
	SlowPeer   string `placeholder:"POLICY" default:"reject" help:"What happens past --send-memory: reject refuses the message, close closes the connection that holds the most bytes and takes the message. Default ${default}."`
	MaxMessage size   `placeholder:"SIZE" default:"10MiB" help:"Bytes of one incoming message of ws-echo; a longer one closes the connection with code 1009. Default ${default}."`
	MaxConns   number `placeholder:"N" help:"Number of connections; further clients wait to be accepted. Default 0: the limit on descriptors (nofile) less a reserve."`

	IdleTimeout  time.Duration `placeholder:"DURATION" help:"Time of silence before a connection is closed, such as 90s or 5m. While the client takes what was sent to it, it is not silent. Default 0: never."`
	CloseTimeout time.Duration `placeholder:"DURATION" default:"10s" help:"Time that a flush may take when a connection closes, such as 1500ms. Default ${default}."`
	DrainTimeout time.Duration `placeholder:"DURATION" default:"10s" help:"Time that a shutdown may take before what is still open is reset. Default ${default}."`

	Events *string `placeholder:"FILE" help:"Append events to FILE as lines of JSON, one an event; - is stdout. Events that FILE cannot take in time are dropped and counted. Default: none."`
}

// Help is the part of the help of serve that is not about one flag.
func (*serveCmd) Help() string {
	return `KIND is what is served:

  echo      sends back every byte, or every datagram
  discard   reads and counts
  firehose  sends what the client asks for, as fast as it reads
  ws-echo   WebSocket: sends back every message with its type, compressed where
            the client offers permessage-deflate

Firehose takes lines: "SEND <bytes> <seed>", "FLOOD <count> <size> <seed>" and "QUIT". Try it with:
printf 'SEND 100 abc\nQUIT\n' | nc 127.0.0.1 8484 | xxd

When all listeners accept, stdout has one line for each: "listening on tcp://127.0.0.1:8484 engine=uring loops=2". Log lines go to stderr.

SIGINT or SIGTERM stops accepting, flushes, closes and exits with 0 within --drain-timeout; a second signal stops at once with 1. The exit code is 2 for a wrong command line, and 1 for all that kept it from serving.

A loop that waits in the kernel keeps one of Go's processors, so serve sets GOMAXPROCS to the number of loops plus 2, unless the environment variable GOMAXPROCS is set.`
}
