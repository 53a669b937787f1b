package main

import (
	"syscall"
	"testing"
	"time"
)

// TestStopped stops the server and lets it go on in the middle of an answer, as
// a shell's job control and debuggers do: waits in the kernel are interrupted,
// and no byte is lost.
func TestStopped(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		s := serve(t, "firehose", engine, "--high-water", "65536")
		c := s.ask("SEND 12000000 a\n")
		_ = c.CloseWrite()
		go func() {
			for range 10 {
				_ = s.cmd.Process.Signal(syscall.SIGSTOP)
				time.Sleep(10 * time.Millisecond)
				_ = s.cmd.Process.Signal(syscall.SIGCONT)
				time.Sleep(10 * time.Millisecond)
			}
		}()
		same(t, all(t, slow{c, 64 << 10, 2 * time.Millisecond}), stream(12_000_000, "a"))
		for _, end := range s.ends() {
			if end.Reason != "eof" {
				t.Errorf("%+v", end)
			}
		}
	})
}
