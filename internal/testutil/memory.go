package testutil

import "runtime"

// Mallocs returns how often a call of fn allocates, on all goroutines, once it has been
// called a while. Others allocate too now and then, the runtime among them, so it is the
// least of three counts of n calls.
func Mallocs(n int, fn func()) float64 {
	for range n / 4 {
		fn()
	}
	least := ^uint64(0)
	for range 3 {
		_, before := Allocated()
		for range n {
			fn()
		}
		_, after := Allocated()
		least = min(least, after-before)
	}
	return float64(least) / float64(n)
}

// Heap returns the bytes that live on the heap.
func Heap() int {
	runtime.GC()
	runtime.GC() // What the first one has found by finalizers and pools.
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// Allocated returns the bytes that were ever allocated, and how often that was.
func Allocated() (bytes, mallocs uint64) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc, m.Mallocs
}
