// Compare is the other side of the load test: servers for the same protocols on
// other libraries and, as a limit, in C. The load test starts it as a subject.
//
//	compare --peer c-uring --protocol echo --listen 127.0.0.1:0 --loops 1
//	compare --list
//
// It prints one line, "listening on tcp://HOST:PORT peer=NAME", once it accepts, and
// ends on SIGTERM, on SIGINT, and when standard input is a pipe that closes.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
)

// config is what the command line asks for.
type config struct {
	peer     string // name as printed
	addr     string // HOST:PORT with a numeric host; port 0 = any
	fanout   bool   // else echo, of those over TCP
	protocol string
	loops    int // event loops, at least 1
	buffer   int // bytes of a receive buffer; 0 = the peer's best
}

func main() {
	err := run(os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	var cfg config
	var list bool
	var protocol string
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.BoolVar(&list, "list", false, "print what can be compared, a JSON object a line")
	flags.StringVar(&cfg.peer, "peer", "", "one of "+strings.Join(names(), ", "))
	flags.StringVar(&protocol, "protocol", "echo", "one of "+strings.Join(append(slices.Clone(tcpProtocols), wsProtocols...), ", "))
	flags.StringVar(&cfg.addr, "listen", "127.0.0.1:0", "address, HOST:PORT")
	flags.IntVar(&cfg.loops, "loops", 1, "event loops")
	flags.IntVar(&cfg.buffer, "buffer", 0, "bytes of a receive buffer; 0 is the peer's best")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if list {
		return printList(stdout)
	}
	p, ok := find(cfg.peer)
	switch {
	case !ok:
		return fmt.Errorf("no peer %q; there are %s", cfg.peer, strings.Join(names(), ", "))
	case !slices.Contains(p.speaks(), protocol):
		return fmt.Errorf("no protocol %q; %s has %s", protocol, p.name, strings.Join(p.speaks(), ", "))
	case cfg.loops < 1 || cfg.buffer < 0 || flags.NArg() > 0:
		return errors.New("--loops must be at least 1, --buffer at least 0, and no other argument may follow")
	}
	tcp, err := net.ResolveTCPAddr("tcp", cfg.addr)
	if err != nil {
		return err
	}
	if tcp.IP == nil {
		tcp.IP = net.IPv4zero
	}
	cfg.addr, cfg.fanout, cfg.peer = tcp.String(), protocol == "fanout", p.name
	cfg.protocol = protocol
	if !p.native {
		exitOnEnd()
	}
	return p.serve(cfg)
}

// printList says for each peer whether and how it can be measured here.
func printList(w io.Writer) error {
	out := json.NewEncoder(w)
	for _, p := range peers() {
		line := struct {
			Name      string   `json:"name"`
			Protocols []string `json:"protocols"`
			How       string   `json:"how"`
			Error     string   `json:"error"`
		}{p.name, p.speaks(), p.how, ""}
		if p.built != nil {
			line.How = strings.TrimSuffix(line.How+"; "+p.built(), "; ")
		}
		if p.check != nil {
			if err := p.check(); err != nil {
				line.Error = err.Error()
			}
		}
		if err := out.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

// announce prints the one line the load test waits for, from a heap that was collected.
func announce(cfg config, addr net.Addr) {
	debug.FreeOSMemory()
	fmt.Printf("listening on tcp://%s peer=%s\n", addr, cfg.peer)
}

// exitOnEnd has the process end when it is asked to. The kernel closes what is open: a
// subject of a measurement has nothing to save.
func exitOnEnd() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	go func() {
		<-signals
		os.Exit(0)
	}()
	info, err := os.Stdin.Stat()
	if err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return // a terminal, a file or /dev/null says nothing about who started us
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
}
