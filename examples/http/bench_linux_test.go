package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// clients is how many connections a benchmark has.
const clients = 64

// BenchmarkHTTP has clients ask one after another, each on a connection of its own
// that stays open, and tells the CPU of the server besides, which is a process of
// its own. The clients share its CPUs, so compare by cpu-µs/op.
func BenchmarkHTTP(b *testing.B) {
	for _, load := range []struct {
		name string
		up   int
		path string
	}{{"get64", 0, "/bytes/64"}, {"get1MiB", 0, "/bytes/1048576"}, {"put1MiB", 1 << 20, "/discard"}} {
		for _, engine := range []string{"net", "epoll", "uring"} {
			b.Run(load.name+"/"+engine, func(b *testing.B) {
				e := start(b, engine)
				defer e.stop(b)
				request := fmt.Appendf(nil, "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", load.path, load.up)
				if load.up == 0 {
					request = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", load.path)
				}
				request = append(request, make([]byte, load.up)...)
				turns := make(chan struct{}, b.N)
				for range b.N {
					turns <- struct{}{}
				}
				close(turns)
				var wg sync.WaitGroup
				before := cpu(b, e.Process.Pid)
				b.ResetTimer()
				for range clients {
					c, err := net.Dial("tcp", e.addr)
					if err != nil {
						b.Fatal(err)
					}
					wg.Go(func() {
						defer c.Close()
						in := bufio.NewReaderSize(c, 64<<10)
						for range turns {
							_, err := c.Write(request)
							if err == nil {
								err = answer(in)
							}
							if err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				used := cpu(b, e.Process.Pid) - before
				b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-µs/op")
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
			})
		}
	}
}

// answer reads one answer.
func answer(in *bufio.Reader) error {
	length := 0
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if v, ok := strings.CutPrefix(string(line), "Content-Length: "); ok {
			if length, err = strconv.Atoi(strings.TrimSpace(v)); err != nil {
				return err
			}
		}
		if len(line) == 2 {
			break
		}
	}
	_, err := io.CopyN(io.Discard, in, int64(length))
	return err
}

// cpu returns the CPU time that a process has used, by the 10 ms.
func cpu(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}
