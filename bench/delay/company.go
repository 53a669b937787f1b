package main

import (
	"runtime"
	"time"
)

const (
	sleepers     = 1000
	sleeperNap   = 10 * time.Millisecond
	forcedEvery  = 20 * time.Millisecond
	garbageBytes = 4 << 10
	garbageKept  = 1024    // pieces that stay reachable: 4 MiB
	listNodes    = 1 << 17 // that a forced collection has to mark: 2 MiB of pointers
)

// startCompany starts what runs beside the loops, to the end of the process.
func startCompany(kind string, many int) {
	switch kind {
	case besideComputes:
		for range many {
			go func() {
				for {
					compute(1 << 20)
				}
			}()
		}
	case besideAllocates:
		for range many {
			go allocate()
		}
	case besideSleepers:
		for i := range sleepers {
			go func() {
				time.Sleep(sleeperNap * time.Duration(i) / sleepers)
				for {
					time.Sleep(sleeperNap)
				}
			}()
		}
	case besideGC:
		go collect()
	}
}

// compute multiplies so many times, each needing the one before.
func compute(steps int) {
	x := uint64(steps)
	for range steps {
		x = x*6364136223846793005 + 1442695040888963407
	}
	runtime.KeepAlive(x)
}

// allocate makes garbage as fast as it can, and keeps the newest of it.
func allocate() {
	var kept [garbageKept][]byte
	for i := 0; ; i++ {
		kept[i%garbageKept] = make([]byte, garbageBytes)
	}
}

// node is something to mark.
type node struct {
	next *node
	_    uint64
}

// collect forces collections of a small heap.
func collect() {
	var list *node
	for range listNodes {
		list = &node{next: list}
	}
	for range time.Tick(forcedEvery) {
		runtime.GC()
	}
	runtime.KeepAlive(list)
}
