package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/penstock-go/penstock/internal/testutil"
)

const address = "127.0.0.1:8484"

// TestMain is the program itself where its test runs it: it has no flags, and ends by a
// signal.
func TestMain(m *testing.M) {
	if os.Getenv("PENSTOCK_ECHO") != "" {
		main()
		return
	}
	testutil.Main(m)
}

// started runs the program, when its port is free: another test may have it. It skips
// the test where that takes longer than any has.
func started(t *testing.T) (program *exec.Cmd, ended chan error) {
	t.Helper()
	free, err := net.Listen("tcp", address)
	for end := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
		free, err = net.Listen("tcp", address)
	}
	if err != nil {
		t.Skip("the port of the example is taken: ", err)
	}
	_ = free.Close()
	program = exec.Command(os.Args[0])
	program.Env = append(os.Environ(), "PENSTOCK_ECHO=1")
	said := &bytes.Buffer{}
	program.Stderr = said
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Process.Kill() })
	ended = make(chan error, 1)
	go func() { ended <- program.Wait() }()
	testutil.Eventually(t, 20*time.Second, "the server", func() bool {
		if len(ended) > 0 { // Somebody was faster to the port, if it was not for something else.
			if err := <-ended; bytes.Contains(said.Bytes(), []byte("address already in use")) {
				t.Skip("the port of the example is taken: ", err)
			}
			t.Fatalf("it ended with %q", said)
		}
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return program, ended
}

// TestEcho has clients send much before they read, and end their side: each gets back all
// that it has sent. At Ctrl-C the program ends, and its clients are told.
func TestEcho(t *testing.T) {
	program, ended := started(t)
	var wg sync.WaitGroup
	for i := range 4 {
		c := dial(t)
		wg.Go(func() {
			defer c.Close()
			data := make([]byte, 1+i*(8<<20)) // More than sockets and marks hold.
			_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(data)
			go func() {
				_, _ = c.Write(data)
				_ = c.CloseWrite()
			}()
			time.Sleep(100 * time.Millisecond)
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
				t.Errorf("client %d has %d bytes of %d, or others: %v", i, len(got), len(data), err)
			}
		})
	}
	wg.Wait()
	idle := dial(t)
	defer idle.Close()
	if _, err := idle.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(idle, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := program.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if _, err := idle.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("an idle client reads %v", err)
	}
	_ = idle.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(testutil.Timeout(20 * time.Second)):
		t.Error("it does not end")
	}
}

func dial(t *testing.T) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(testutil.Timeout(20 * time.Second)))
	return c.(*net.TCPConn)
}
