package reactor_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/reactor"
)

// quiet is where an example's group logs.
var quiet = slog.New(slog.DiscardHandler)

// What a loop has of its own is made in OnStart and given back in OnEnd. Here it is
// a counter, which needs no lock: only its loop touches it.
func ExampleConfig() {
	counts := make([]int, 2) // by loop
	group, err := reactor.Start(reactor.Config{
		Loops:  2,
		Logger: quiet,
		OnStart: func(l *reactor.Loop) error {
			counts[l.ID()] = 100
			return nil
		},
		OnEnd: func(l *reactor.Loop) { counts[l.ID()]++ },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range group.Len() {
		group.Loop(i).Post(func(l *reactor.Loop) { counts[l.ID()] += 10 })
	}
	if err := group.Shutdown(context.Background()); err != nil {
		fmt.Println(err)
	}
	fmt.Println(counts)
	// Output: [111 111]
}

// An OnStart that fails ends the start, and what ran already is ended.
func ExampleConfig_refused() {
	_, err := reactor.Start(reactor.Config{
		Loops:  2,
		Logger: quiet,
		OnStart: func(l *reactor.Loop) error {
			if l.ID() == 1 {
				return fmt.Errorf("no cache to be had")
			}
			return nil
		},
		OnEnd: func(l *reactor.Loop) { fmt.Println("loop", l.ID(), "has ended") },
	})
	fmt.Println(err)
	// Output:
	// loop 0 has ended
	// loop 1: reactor: OnStart: no cache to be had
}

// A periodic timer stops itself.
func ExampleLoop_Every() {
	done := make(chan struct{})
	group, err := reactor.Start(reactor.Config{Loops: 1, Logger: quiet, OnStart: func(l *reactor.Loop) error {
		n := 0
		var t *reactor.Timer
		t = l.Every(time.Millisecond, nil, func() {
			if n++; n == 3 {
				t.Stop()
				close(done)
			}
			fmt.Println("tick", n)
		})
		return nil
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	<-done
	_ = group.Close()
	// Output:
	// tick 1
	// tick 2
	// tick 3
}

// A goroutine or another program wakes a loop through an eventfd.
func ExampleLoop_Watch() {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		fmt.Println(err)
		return
	}
	done := make(chan struct{})
	group, err := reactor.Start(reactor.Config{Loops: 1, Logger: quiet, OnStart: func(l *reactor.Loop) error {
		var w *reactor.Watch
		w = l.Watch(fd, unix.POLLIN, func(_ uint32, err error) {
			b := make([]byte, 8)
			if err == nil {
				_, err = unix.Read(fd, b)
			}
			fmt.Println("counted", b[0], err)
			w.Stop()
			_ = unix.Close(fd)
			close(done)
		})
		return nil
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, _ = unix.Write(fd, []byte{7, 7, 7, 7, 7, 7, 7, 7}) // The same in both byte orders.
	<-done
	_ = group.Close()
	// Output: counted 7 <nil>
}
