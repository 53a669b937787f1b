package ws

import (
	"bytes"
	"testing"
)

// TestAgainCollectsNothing holds that a message which is inflated a second time, to see
// where it ends, is not in memory a second time.
func TestAgainCollectsNothing(t *testing.T) {
	data := bytes.Repeat([]byte("what is long, "), 300000)
	d := &deflater{level: 1}
	f := newInflater()
	f.again = true
	if err := f.messageWith(otherTail, d.append(nil, data, nil, maxBits), nil, DefaultMaxMessage); err != nil {
		t.Fatal(err)
	}
	if f.size != len(data)+1 || cap(f.out) > pieceBytes {
		t.Errorf("%d bytes of %d came out, %d are held", f.size, len(data)+1, cap(f.out))
	}
}
