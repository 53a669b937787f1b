package buf_test

import "testing"

// TestTruncate holds what is left, and where the next bytes go.
func TestTruncate(t *testing.T) {
	p := newPool(t, small)
	defer p.Close()
	b := p.Get()
	b.Append([]byte("drop this"))
	b.Advance(5)
	b.Truncate(2)
	b.Append([]byte("e."))
	if got := string(b.Bytes()); got != "the." {
		t.Errorf("%q", got)
	}
	mustPanic(t, "past the filled range", func() { b.Truncate(5) })
	mustPanic(t, "past the filled range", func() { b.Truncate(-1) })
	b.Release()
}
