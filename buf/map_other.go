//go:build !unix

package buf

// mapSlab serves systems on which no engine runs; there the heap will do.
func mapSlab(n int) ([]byte, error) { return make([]byte, n), nil }

func unmapSlab([]byte) {}
