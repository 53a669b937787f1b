package ws_test

import (
	"errors"
	"testing"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/ws"
)

// TestNoHandler holds that a Handler that is nil is an error, and no panic later.
func TestNoHandler(t *testing.T) {
	if _, err := ws.NewServer(nil, ws.Config{}); !errors.Is(err, conn.ErrNoHandler) {
		t.Errorf("a server: %v", err)
	}
	if _, err := ws.NewClient("ws://localhost", nil, ws.ClientConfig{}); !errors.Is(err, conn.ErrNoHandler) {
		t.Errorf("a client: %v", err)
	}
}
