package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// slowly writes to a hash, and takes its time.
type slowly struct {
	all   bytes.Buffer
	pause time.Duration
}

func (s *slowly) Write(p []byte) (int, error) {
	time.Sleep(s.pause)
	return s.all.Write(p)
}

// TestDrain has clients of different speed get a file at once: each gets all of it.
func TestDrain(t *testing.T) {
	for _, engine := range []string{"uring", "epoll"} {
		t.Run(engine, func(t *testing.T) {
			kind, _ := reactor.ParseEngine(engine)
			g, err := reactor.Start(reactor.Config{Loops: 1, Engine: kind})
			if engine == "uring" {
				testutil.SkipIfKernelOlder(t, "6.1", "io_uring", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			_ = g.Close()
			data := make([]byte, 3<<20+123)
			rng := rand.NewChaCha8([32]byte{1})
			_, _ = rng.Read(data)
			file := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			in, out := io.Pipe()
			ended := make(chan error, 1)
			go func() {
				err := serve(ctx, options{listen: "127.0.0.1:0", engine: engine, file: file}, out)
				_ = out.Close()
				ended <- err
			}()
			lines := bufio.NewScanner(in)
			if !lines.Scan() {
				t.Fatal(<-ended)
			}
			var address, on string
			if _, err := fmt.Sscanf(lines.Text(), "serving %s on %s", &address, &on); err != nil || on != engine {
				t.Fatalf("%q: %v", lines.Text(), err)
			}
			var wg sync.WaitGroup
			for i := range 4 {
				wg.Go(func() {
					s := &slowly{pause: time.Duration(i) * time.Millisecond}
					if err := get(context.Background(), options{engine: engine, get: address}, s); err != nil {
						t.Error(err)
					}
					if sha256.Sum256(s.all.Bytes()) != sha256.Sum256(data) {
						t.Errorf("client %d has %d bytes of %d, or others", i, s.all.Len(), len(data))
					}
				})
			}
			wg.Wait()
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			_, _ = io.Copy(io.Discard, in)
		})
	}
}
