package ws

import (
	"reflect"
	"testing"
)

// TestSize holds that a WebSocket stays in its class of allocation.
func TestSize(t *testing.T) {
	if n := reflect.TypeFor[Conn]().Size(); n > 112 {
		t.Errorf("a Conn has %d bytes, more than 112", n)
	}
}
