//go:build !linux

package fallback

import (
	"time"

	"github.com/penstock-go/penstock/aio"
)

// Engine implements aio.Engine on Linux only.
type Engine struct{}

var _ aio.Engine = (*Engine)(nil)

// NewEngine returns ErrNotSupported.
func NewEngine(cfg Config) (*Engine, error) {
	if _, err := cfg.check(); err != nil {
		return nil, err
	}
	return nil, ErrNotSupported
}

// Submit implements aio.Engine.
func (e *Engine) Submit(*aio.Op) {}

// Try implements aio.Engine.
func (e *Engine) Try(*aio.Op) int { return 0 }

// Wait implements aio.Engine.
func (e *Engine) Wait([]aio.Completion, time.Duration) (int, error) { return 0, ErrNotSupported }

// Wake implements aio.Engine.
func (e *Engine) Wake() {}

// Caps implements aio.Engine.
func (e *Engine) Caps() aio.Caps { return aio.Caps{Engine: "epoll"} }

// Stats implements aio.Engine.
func (e *Engine) Stats() aio.Stats { return aio.Stats{} }

// Close implements aio.Engine.
func (e *Engine) Close() error { return nil }
